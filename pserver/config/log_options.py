"""The settings of a server's log."""

from dataclasses import dataclass

from pserver.config.listen_options import FilePath
from pserver.config.option import OptionGroup, check_size, parse_size, setting
from srp_tools.errors import ConfigurationError

_MOST_FILES = 1000
_FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")  #: from the most lines to the fewest


@dataclass(frozen=True)
class LogForm:
    """The format of log lines and the lowest level to write, the same in all processes of a server."""

    format: str = "text"
    level: str = "info"


DEFAULT_FORM = LogForm()


@dataclass(frozen=True, kw_only=True)
class LogOptions(OptionGroup):
    """The log settings of a server."""

    log_file: FilePath | None = setting(
        None,
        "The log file.",
        "FILE",
        default_text="NAME-HOST.log in your folder for logs; in the foreground, standard error",
    )
    log_size: int = setting(
        10 * 2**20,
        "The size at which the server renames the log to FILE.1 and starts a new log; 0 leaves that to other programs.",
        "BYTES[kmgt]",
        parse=parse_size,
        default_text="10m",
    )
    log_files: int = setting(5, "The number of log files to keep, including the current one.", "N", parse=int)

    log_format: str = setting("text", "The format of the lines: text, or json for programs.", "FORMAT")
    log_level: str = setting(
        "info",
        "The lowest level to write: debug, info, warning or error. Audit lines are always written.",
        "LEVEL",
        reloads=True,
    )
    debug: bool = setting(
        False,
        "Log each job: its user, its function, its outcome and its duration. The same as --log-level debug.",
        flags=("--debug", "-d"),
        reloads=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, value, known in (
            ("--log-format", self.log_format, _FORMATS),
            ("--log-level", self.log_level, LEVELS),
        ):
            if value not in known:
                raise ConfigurationError(f"{flag} {value}: give one of {', '.join(known)}")
        check_size("--log-size", self.log_size)
        if not 2 <= self.log_files <= _MOST_FILES:
            count = f"--log-files {self.log_files}"
            raise ConfigurationError(f"{count}: give 2 to {_MOST_FILES}, including the current one")

    def log_form(self) -> LogForm:
        """Return the format of the lines and the lowest level to write."""
        return LogForm(self.log_format, "debug" if self.debug else self.log_level)

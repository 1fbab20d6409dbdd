"""What a server writes about itself, and where."""

from dataclasses import dataclass

from pserver.config.listen_options import FilePath
from pserver.config.option import OptionGroup, check_size, parse_size, setting
from srp_tools.errors import ConfigurationError

_MOST_FILES = 1000
_FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")  #: from those with most lines to those with fewest


@dataclass(frozen=True)
class LogForm:
    """What lines look like, and which are written; all processes of a server have the same."""

    format: str = "text"
    level: str = "info"


DEFAULT_FORM = LogForm()


@dataclass(frozen=True, kw_only=True)
class LogOptions(OptionGroup):
    """Those settings of a server that concern its log."""

    log_file: FilePath | None = setting(
        None,
        "Where to write the log.",
        "FILE",
        default_text="NAME-HOST.log in the user's folder for logs; in the foreground, standard error",
    )
    log_size: int = setting(
        10 * 2**20,
        "Size at which the server renames the log to FILE.1 and begins a new one; 0 leaves that to another program.",
        "BYTES[kmgt]",
        parse=parse_size,
        default_text="10m",
    )
    log_files: int = setting(
        5, "How many files of the log to keep, with the one that is being written.", "N", parse=int
    )

    log_format: str = setting("text", "What a line looks like: text, or json for programs.", "FORMAT")
    log_level: str = setting(
        "info",
        "Which lines to write: debug, info, warning or error, and those above. Lines of the audit are always written.",
        "LEVEL",
        reloads=True,
    )
    debug: bool = setting(
        False,
        "Log each job, with its user, what ran, how it ended and its seconds; the same as --log-level debug.",
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
            raise ConfigurationError(f"{count}: give 2 to {_MOST_FILES}, because one is being written")

    def log_form(self) -> LogForm:
        """Return what the log looks like, and which lines it has."""
        return LogForm(self.log_format, "debug" if self.debug else self.log_level)

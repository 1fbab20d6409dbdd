"""What a server writes about itself, and where."""

from dataclasses import dataclass

from pserver.config.listen_options import FilePath
from pserver.config.option import OptionGroup, check_size, parse_size, setting
from srp_tools.errors import ConfigurationError

_MOST_FILES = 1000


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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("--log-size", self.log_size)
        if not 2 <= self.log_files <= _MOST_FILES:
            count = f"--log-files {self.log_files}"
            raise ConfigurationError(f"{count}: give 2 to {_MOST_FILES}, because one is being written")

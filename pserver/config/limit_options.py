"""How much a session and a job may use."""

import math
from dataclasses import dataclass, fields
from typing import Any, Self

from pserver.config.listen_options import ListenOptions
from pserver.config.option import check_size, parse_duration, parse_size, setting
from srp_tools.errors import ConfigurationError

_LEAST_MEMORY = 2**28  # an engine has about 120 MiB before it does anything
_LEAST_FILES = 64
_LEAST_PROCESSES = 8  # the spawner, an engine, some workers and threads of libraries
_MOST_NICE = 19
_MOST_SECONDS = 10 * 366 * 86400.0


@dataclass(frozen=True)
class SessionLimits:
    """The limits of one session, from its beginning to its end; 0 sets none.

    Each is the option of `LimitOptions` with the same name, or with ``session_`` or ``max_`` in front.
    """

    memory: int = 0
    cpu: float = 0.0
    time: float = 0.0
    processes: int = 0
    processors: float = 0.0
    files: int = 0
    output: int = 0
    disk: int = 0
    file_size: int = 0  #: of each file that a client puts here or gets from here
    idle_timeout: float = 0.0
    nice: int = 0
    job_time: float = 0.0
    job_memory: int = 0
    cgroup: str = ""  #: the folder of the session's cgroup, or of those of all sessions; empty: there is none

    def as_json(self) -> dict[str, Any]:
        """Return the limits that are set, for `from_json`."""
        return {name: value for name, value in vars(self).items() if value}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the limits of which `as_json` gave this; raises `ValueError` if it is something else."""
        for name, value in values.items():
            known = next((each.default for each in fields(cls) if each.name == name), None)
            is_right = isinstance(value, str) if isinstance(known, str) else type(value) in {int, float}
            if known is None or not is_right:
                raise ValueError(f"{name}={value!r} is no limit of a session")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class LimitOptions(ListenOptions):
    """Those settings of a server that say how much a session and a job may use; they hold for later sessions."""

    session_memory: int = setting(
        0,
        "How much memory each process of a session may have, such as 4g; where the server has a cgroup of its own, "
        "also all of them together. 0 sets no limit.",
        "BYTES[kmgt]",
        parse=parse_size,
        reloads=True,
    )
    session_cpu: float = setting(
        0.0,
        "How much processor time each process of a session may use: seconds, or with m, h or d, such as 12h. 0 sets no "
        "limit.",
        "SECONDS[mhd]",
        parse=parse_duration,
        reloads=True,
    )
    session_time: float = setting(
        0.0,
        "How long a session may last. 0 sets no limit.",
        "SECONDS[mhd]",
        parse=parse_duration,
        reloads=True,
    )
    session_processes: int = setting(
        0,
        "How many processes and threads a session may have, where the server has a cgroup of its own. Elsewhere the "
        "system counts all of the account together, those of other sessions and of the server too, and sets root no "
        "limit. 0 sets no limit.",
        "N",
        parse=int,
        reloads=True,
    )
    session_processors: float = setting(
        0.0,
        "How many processors a session may keep busy, such as 2.5; only where the server has a cgroup of its own. 0 "
        "sets no limit.",
        "N",
        parse=float,
        reloads=True,
    )
    session_files: int = setting(
        0,
        "How many files and connections each process of a session may have open. 0 leaves it at what the server was "
        "started with.",
        "N",
        parse=int,
        reloads=True,
    )
    session_output: int = setting(
        0,
        "How much the commands of a session may print, such as 100m; jobs and programs do not count. 0 sets no limit.",
        "BYTES[kmgt]",
        parse=parse_size,
        reloads=True,
    )
    session_disk: int = setting(
        0,
        "How much a session may keep in its private folder. 0 sets no limit.",
        "BYTES[kmgt]",
        parse=parse_size,
        reloads=True,
    )
    max_file_size: int = setting(
        0,
        "Limit for each file that a client puts here or gets from here, such as 64m; 0 sets no limit.",
        "BYTES[kmgt]",
        parse=parse_size,
        reloads=True,
    )
    idle_timeout: float = setting(
        0.0,
        "How long a session lasts in which nothing runs, and of whose client nothing is heard. 0 sets no limit.",
        "SECONDS[mhd]",
        parse=parse_duration,
        reloads=True,
    )
    nice: int = setting(
        0,
        "Niceness of what sessions run: 1 to 19 let other programs go first.",
        "N",
        parse=int,
        reloads=True,
    )
    job_time: float = setting(
        0.0,
        "How long each job may run; a client's time_limit may be shorter. 0 sets no limit.",
        "SECONDS[mhd]",
        parse=parse_duration,
        reloads=True,
    )
    job_memory: int = setting(
        0,
        "How much memory the jobs of a worker may add to what it begins with; a client's memory_limit may be less. 0 "
        "sets no limit.",
        "BYTES[kmgt]",
        parse=parse_size,
        reloads=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, size in (
            ("--session-memory", self.session_memory),
            ("--session-output", self.session_output),
            ("--session-disk", self.session_disk),
            ("--max-file-size", self.max_file_size),
            ("--job-memory", self.job_memory),
        ):
            check_size(option, size)
        for option, seconds in (
            ("--session-cpu", self.session_cpu),
            ("--session-time", self.session_time),
            ("--idle-timeout", self.idle_timeout),
            ("--job-time", self.job_time),
        ):
            if not 0 <= seconds <= _MOST_SECONDS:
                raise ConfigurationError(
                    f"{option} {seconds:g}: give 0 or more, at most 10 years; 0 sets no limit"
                )
        for option, number, least in (
            ("--session-memory", self.session_memory, _LEAST_MEMORY),
            ("--session-files", self.session_files, _LEAST_FILES),
            ("--session-processes", self.session_processes, _LEAST_PROCESSES),
            ("--session-cpu", self.session_cpu, 1),
        ):
            if number < 0 or 0 < number < least:
                what = "256m" if least == _LEAST_MEMORY else least
                raise ConfigurationError(
                    f"{option} {number:g}: a session needs {what} or more; 0 sets no limit"
                )
        if self.session_processors and not 0.01 <= self.session_processors < math.inf:
            raise ConfigurationError(
                f"--session-processors {self.session_processors:g}: give 0.01 or more; 0 sets no limit"
            )
        if not 0 <= self.nice <= _MOST_NICE:
            raise ConfigurationError(f"--nice {self.nice}: give 0 to {_MOST_NICE}")

    def session_limits(self, cgroup: str = "") -> SessionLimits:
        """Return the limits of a session that begins now; `cgroup`: see `SessionLimits`."""
        own = {
            name.removeprefix("session_").removeprefix("max_"): value for name, value in vars(self).items()
        }
        own["cgroup"] = cgroup
        return SessionLimits(**{each.name: own[each.name] for each in fields(SessionLimits)})

"""Resource limits of sessions and jobs."""

import math
from dataclasses import dataclass, fields
from typing import Any, Self

from pserver.config.listen_options import ListenOptions
from pserver.config.option import check_size, parse_duration, parse_size, setting, size_text
from srp_tools.errors import ConfigurationError

_LEAST_MEMORY = 2**28  # an idle engine uses about 120 MiB
_LEAST_FILES = 64
_LEAST_PROCESSES = 8  # the spawner, an engine, a few workers, and threads of libraries
_MOST_NICE = 19
_MOST_SECONDS = 10 * 366 * 86400.0


@dataclass(frozen=True)
class SessionLimits:
    """The limits of one session, fixed when it starts; 0 sets no limit.

    Each field stands for the option of `LimitOptions` with the same name, or with ``session_`` or ``max_`` in front.
    """

    memory: int = 0
    cpu: float = 0.0
    time: float = 0.0
    processes: int = 0
    processors: float = 0.0
    files: int = 0
    output: int = 0
    disk: int = 0
    file_size: int = 0  #: of each file that a client uploads or downloads
    idle_timeout: float = 0.0
    nice: int = 0
    job_time: float = 0.0
    job_memory: int = 0
    cgroup: str = ""  #: the folder of the session's cgroup, or of all sessions' cgroups; empty: none

    def as_json(self) -> dict[str, Any]:
        """Return the limits that are set, for `from_json`."""
        return {name: value for name, value in vars(self).items() if value}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Make limits from the result of `as_json`; raises `ValueError` if a name or a value is not valid."""
        for name, value in values.items():
            known = next((each.default for each in fields(cls) if each.name == name), None)
            is_right = isinstance(value, str) if isinstance(known, str) else type(value) in {int, float}
            if known is None or not is_right:
                raise ValueError(f"{name}={value!r} is not a session limit")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class LimitOptions(ListenOptions):
    """The settings that limit sessions and jobs; a change applies to sessions that start after it."""

    session_memory: int = setting(
        0,
        "Memory limit for each process of a session, such as 4g. If the server has its own cgroup, the limit also "
        "applies to all processes of the session together. 0 sets no limit.",
        "BYTES[kmgt]",
        parse=parse_size,
        reloads=True,
    )
    session_cpu: float = setting(
        0.0,
        "CPU time limit for each process of a session: seconds, or a number with m, h or d, such as 12h. 0 sets no "
        "limit.",
        "SECONDS[mhd]",
        parse=parse_duration,
        reloads=True,
    )
    session_time: float = setting(
        0.0,
        "Time limit for each session. 0 sets no limit.",
        "SECONDS[mhd]",
        parse=parse_duration,
        reloads=True,
    )
    session_processes: int = setting(
        0,
        "The maximum number of processes and threads in a session, if the server has its own cgroup. Otherwise the "
        "system counts all processes of the account, including other sessions and the server, and does not limit "
        "root. 0 sets no limit.",
        "N",
        parse=int,
        reloads=True,
    )
    session_processors: float = setting(
        0.0,
        "The number of processors that a session may keep busy, such as 2.5; only if the server has its own cgroup. 0 "
        "sets no limit.",
        "N",
        parse=float,
        reloads=True,
    )
    session_files: int = setting(
        0,
        "The maximum number of open files and connections for each process of a session. 0 keeps the limit that the "
        "server was started with.",
        "N",
        parse=int,
        reloads=True,
    )
    session_output: int = setting(
        0,
        "Limit for the output of a session's commands, such as 100m; jobs and programs do not count. 0 sets no limit.",
        "BYTES[kmgt]",
        parse=parse_size,
        reloads=True,
    )
    session_disk: int = setting(
        0,
        "Disk space limit for the private folder of a session. 0 sets no limit.",
        "BYTES[kmgt]",
        parse=parse_size,
        reloads=True,
    )
    max_file_size: int = setting(
        0,
        "Size limit for each file that a client uploads or downloads, such as 64m; 0 sets no limit.",
        "BYTES[kmgt]",
        parse=parse_size,
        reloads=True,
    )
    idle_timeout: float = setting(
        0.0,
        "End a session after this long in which it runs nothing and its client sends nothing. 0 sets no limit.",
        "SECONDS[mhd]",
        parse=parse_duration,
        reloads=True,
    )
    nice: int = setting(
        0,
        "Niceness of the processes of sessions: 1 to 19 give other programs priority.",
        "N",
        parse=int,
        reloads=True,
    )
    job_time: float = setting(
        0.0,
        "Time limit for each job; a client's time_limit may be shorter. 0 sets no limit.",
        "SECONDS[mhd]",
        parse=parse_duration,
        reloads=True,
    )
    job_memory: int = setting(
        0,
        "The memory that jobs may add to a worker's initial memory; a client's memory_limit may be lower. 0 sets no "
        "limit.",
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
                is_size = least == _LEAST_MEMORY
                given, what = (size_text(int(number)), "256m") if is_size else (f"{number:g}", least)
                raise ConfigurationError(f"{option} {given}: a session needs {what} or more; 0 sets no limit")
        if self.session_processors and not 0.01 <= self.session_processors < math.inf:
            raise ConfigurationError(
                f"--session-processors {self.session_processors:g}: give 0.01 or more; 0 sets no limit"
            )
        if not 0 <= self.nice <= _MOST_NICE:
            raise ConfigurationError(f"--nice {self.nice}: give 0 to {_MOST_NICE}")

    def session_limits(self, cgroup: str = "") -> SessionLimits:
        """Return the limits of a session that starts now; `cgroup`: see `SessionLimits`."""
        own = {
            name.removeprefix("session_").removeprefix("max_"): value for name, value in vars(self).items()
        }
        own["cgroup"] = cgroup
        return SessionLimits(**{each.name: own[each.name] for each in fields(SessionLimits)})

"""When a server accepts sessions, and how many."""

import re
from dataclasses import dataclass

from pserver.config.listen_options import ListenOptions
from pserver.config.option import setting
from srp_tools.errors import ConfigurationError

_DAY = 24 * 60  # minutes


def parse_time_of_day(text: str) -> str:
    """Return a time of day as HH:MM.

    Raises `ConfigurationError` if the text is not a time of day.

    Examples
    --------
    >>> parse_time_of_day("6:05"), parse_time_of_day("17:00")
    ('06:05', '17:00')
    """
    found = re.fullmatch("([01]?[0-9]|2[0-3]):([0-5][0-9])", text, re.ASCII)
    if found is None:
        raise ConfigurationError(f"{text!r} is not a time of day: give HH:MM, from 00:00 to 23:59")
    return f"{int(found[1]):02}:{found[2]}"


@dataclass(frozen=True, kw_only=True)
class DutyOptions(ListenOptions):
    """The settings that say when a server accepts sessions, and how many."""

    service_start: str | None = setting(
        None,
        "The time at which the server opens each day, by the clock of this machine.",
        "HH:MM",
        parse=parse_time_of_day,
        default_text="always open",
        reloads=True,
    )
    service_stop: str | None = setting(
        None,
        "The time after which the server accepts no new sessions and starts no jobs. Running jobs continue. A time "
        "before --service-start is on the next day.",
        "HH:MM",
        parse=parse_time_of_day,
        default_text="the time of --service-end",
        reloads=True,
    )
    service_end: str | None = setting(
        None,
        "The time at which the server ends all remaining sessions and their jobs.",
        "HH:MM",
        parse=parse_time_of_day,
        default_text="never",
        reloads=True,
    )
    max_sessions: int = setting(
        0,
        "The maximum number of sessions. A client has one session for all its engines on this server. 0 sets no limit.",
        "N",
        parse=int,
        reloads=True,
    )
    max_sessions_per_user: int = setting(
        0,
        "The maximum number of sessions for each user. 0 sets no limit.",
        "N",
        parse=int,
        reloads=True,
    )
    allow_exclusive: bool = setting(
        False,
        "Let any user reserve the whole server for one session (exclusive=True) while there is no other session. "
        "Without this option, only the users in --admins can.",
        reloads=True,
    )
    serve: int = setting(
        0,
        "Exit after N sessions, with status 0. Each login starts one session. 0 sets no limit.",
        "N",
        parse=int,
    )
    clean: bool = setting(
        False,
        "On startup, remove the files that earlier servers of this name left: results that were never recovered, and "
        "session folders. Files that a process is using stay.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, number in (
            ("--max-sessions", self.max_sessions),
            ("--max-sessions-per-user", self.max_sessions_per_user),
            ("--serve", self.serve),
        ):
            if number < 0:
                raise ConfigurationError(f"{option} {number}: give 0 or more; 0 sets no limit")
        if self.max_sessions_per_user and not self.use_tls:
            raise ConfigurationError(
                "--max-sessions-per-user and --no-tls exclude each other: without TLS there is no login, so the server "
                "knows no users; leave out one"
            )
        for name in ("service_start", "service_stop", "service_end"):
            if (given := getattr(self, name)) is not None:
                try:
                    object.__setattr__(self, name, parse_time_of_day(given))
                except ConfigurationError as error:
                    raise ConfigurationError(f"--{name.replace('_', '-')}: {error}") from None
        self._check_hours()

    def _check_hours(self) -> None:
        """Raise `ConfigurationError` if the three times contradict each other."""
        start, stop, end = self.service_start, self.service_stop, self.service_end
        last = stop or end
        if start is None and last is None:
            return
        if start is None or last is None:
            given = start and f"--service-start {start}"
            given = given or (f"--service-stop {stop}" if stop else f"--service-end {end}")
            missing = "--service-start" if start is None else "--service-stop or --service-end"
            raise ConfigurationError(f"{given}: give {missing}, too")
        for option, each in (("--service-stop", stop), ("--service-end", end)):
            if each == start:
                raise ConfigurationError(f"--service-start and {option} are both {start}: they must differ")
        if stop and end and _minutes(start, end) < _minutes(start, stop):
            raise ConfigurationError(
                f"--service-end {end}: after --service-start {start}, it comes before --service-stop {stop}; give a "
                "later time, before the server opens again"
            )


def _minutes(start: str, end: str) -> int:
    """Return the minutes from one time of day to the next occurrence of another."""
    first, last = (int(text[:2]) * 60 + int(text[3:]) for text in (start, end))
    return (last - first) % _DAY

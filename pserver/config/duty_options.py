"""When a server takes sessions, and how many."""

import re
from dataclasses import dataclass

from pserver.config.listen_options import ListenOptions
from pserver.config.option import setting
from srp_tools.errors import ConfigurationError

_DAY = 24 * 60  # minutes


def parse_time_of_day(text: str) -> str:
    """Return a time of the day as HH:MM.

    Raises `ConfigurationError` if it is none.

    Examples
    --------
    >>> parse_time_of_day("6:05"), parse_time_of_day("17:00")
    ('06:05', '17:00')
    """
    found = re.fullmatch("([01]?[0-9]|2[0-3]):([0-5][0-9])", text, re.ASCII)
    if found is None:
        raise ConfigurationError(f"{text!r} is not a time of the day: give HH:MM, from 00:00 to 23:59")
    return f"{int(found[1]):02}:{found[2]}"


@dataclass(frozen=True, kw_only=True)
class DutyOptions(ListenOptions):
    """Those settings of a server that say when it takes sessions, and how many."""

    service_start: str | None = setting(
        None,
        "When the server opens each day, by the wall clock of this machine.",
        "HH:MM",
        parse=parse_time_of_day,
        default_text="always open",
        reloads=True,
    )
    service_stop: str | None = setting(
        None,
        "From when on it takes no new sessions and begins no jobs, perhaps on the next day; what runs goes on.",
        "HH:MM",
        parse=parse_time_of_day,
        default_text="that of --service-end",
        reloads=True,
    )
    service_end: str | None = setting(
        None,
        "When it ends the sessions that are still there, with their jobs.",
        "HH:MM",
        parse=parse_time_of_day,
        default_text="never",
        reloads=True,
    )
    max_sessions: int = setting(
        0,
        "How many sessions there may be at once; a client has one, with all its engines here. 0 sets no limit.",
        "N",
        parse=int,
        reloads=True,
    )
    max_sessions_per_user: int = setting(
        0,
        "How many sessions each user may have at once; 0 sets no limit.",
        "N",
        parse=int,
        reloads=True,
    )
    allow_exclusive: bool = setting(
        False,
        "Let each user have the server for one session alone (exclusive=True), when no other is there; without this, "
        "only those of --admins.",
        reloads=True,
    )
    serve: int = setting(
        0,
        "End after so many sessions, with status 0; 0 sets no limit. Each login begins one session.",
        "N",
        parse=int,
    )
    clean: bool = setting(
        False,
        "At the start, remove what earlier runs of a server of this name left: results that were never recovered, and "
        "folders of sessions; what a process uses stays.",
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
                "--max-sessions-per-user and --no-tls: without TLS there is no login, so there are no users; "
                "leave out one"
            )
        for name in ("service_start", "service_stop", "service_end"):
            if (given := getattr(self, name)) is not None:
                try:
                    object.__setattr__(self, name, parse_time_of_day(given))
                except ConfigurationError as error:
                    raise ConfigurationError(f"--{name.replace('_', '-')}: {error}") from None
        self._check_hours()

    def _check_hours(self) -> None:
        """Refuse hours that no day has."""
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
                f"--service-end {end}: from --service-start {start} on, it comes before --service-stop {stop}; "
                "what runs must have ended when the server opens again"
            )


def _minutes(start: str, end: str) -> int:
    """Return how long it is from one time of the day until another comes."""
    first, last = (int(text[:2]) * 60 + int(text[3:]) for text in (start, end))
    return (last - first) % _DAY

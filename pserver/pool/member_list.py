"""The members that one server knows: its direct neighbours, in both directions, and when it last heard from each.

No member is told of another's members, so each server stores and sends no more than it has neighbours; a client asks
one server after the other, see `pconnect.pool.closure`. (doc/decisions has what that costs.) Nothing here knows the
time or does I/O.

An announcement is no more than an address. It can name a wrong one, even under the id of another server: so each place
that announces has an entry of its own, which none from elsewhere can change.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pserver.config.pool_options import MOST_HOSTS, check_joined
from pserver.pool.member import Member, read_member
from srp_tools.errors import ConfigurationError
from srp_tools.rules.numbers import is_finite

MOST_MEMBERS = 1000
MISSES = 4  # intervals without a word, after which a member counts as gone
_LISTED_SECONDS = 3600.0  # for which one that is gone is listed
# Of this server's time: a login takes some hundredths of a second, so many members come less often.
_SECONDS_EACH = 0.5
_LONGEST_INTERVAL = 86400.0
_LAST = 2.0**40  # of a clock, in seconds


@dataclass
class Entry:
    """A member, and what is known of it."""

    member: Member
    interval: float  #: seconds in which it is expected again
    heard: float  #: instant
    at: float = 0.0  #: when it said so, by its clock: what was sent before may come later
    gone: float | None = None  #: instant at which it was missed
    why: str = ""  #: what kept this server from reaching it


@dataclass
class Joined:
    """A server to which this one announces itself, as the user named it."""

    host: str
    member: Member | None = None  #: as it has answered; ``None``: not yet
    interval: float = 0.0  #: seconds in which it wants to hear again; 0: it has not said
    heard: float = -math.inf  #: instant of its last answer
    failed: int = 0  #: how often it was not reached since
    why: str = ""  #: what happened then
    given: bool = True  #: whether it stands in the settings; else somebody has named it since


@dataclass
class MemberList:
    """The neighbours of the server that has the id `own`."""

    own: str
    announced: dict[tuple[str, str], Entry] = field(default_factory=dict)  #: by id, and whence
    joined: dict[str, Joined] = field(default_factory=dict)  #: by host
    is_changed: bool = False  #: whether there is something to keep that is not kept

    # --- what others announce ---

    def announce(self, words: Mapping[str, Any], source: str, seen_at: str, now: float) -> tuple[Entry, bool]:
        """Take in the announcement of a server; return its entry, and whether it is new or back.

        `source`: the address from which it came; `seen_at`: the host that this makes of it, empty if it is of no use to
        others.

        Raises `ConfigurationError` if it makes no sense, or there are too many. Nothing has changed.
        """
        said = read_member(words)
        if said.id == self.own:
            raise ConfigurationError("this is the server itself: it joins others")
        interval, at = _number(words, "interval", 1.0, _LONGEST_INTERVAL), _number(words, "at", 0.0, _LAST)
        member = said
        if seen_at:
            member = said.with_address(seen_at, is_first=words.get("advertised") is not True)
        if not member.addresses:
            raise ConfigurationError("it has no address at which others reach it; give --advertise")
        key = said.id, source
        before = self.announced.get(key)
        if before is None and len(self.announced) >= MOST_MEMBERS:
            self._make_room()
        wanted = max(interval, _SECONDS_EACH * (len(self.announced) + (before is None)))
        entry = Entry(member, wanted, now, at)
        is_news = before is None or before.gone is not None
        self.is_changed |= is_news or before is None or before.member != member
        self.announced[key] = entry
        return entry, is_news

    def _make_room(self) -> None:
        gone = [key for key, entry in self.announced.items() if entry.gone is not None]
        if not gone:
            raise ConfigurationError(
                f"the server has {MOST_MEMBERS} members already; announce yours to another one"
            )
        del self.announced[min(gone, key=lambda key: self.announced[key].gone or 0.0)]

    def leave(self, words: Mapping[str, Any], source: str) -> Member | None:
        """Forget a server that leaves, and return it; ``None`` if it was not here, or is back already."""
        match words:
            case {"id": str(id_)} if (entry := self.announced.get((id_, source))) is not None:
                if _number(words, "at", 0.0, _LAST) >= entry.at:
                    self.is_changed = True
                    del self.announced[id_, source]
                    return entry.member
        return None

    # --- to whom this server announces itself ---

    def join(self, host: str, *, given: bool) -> Joined:
        """Announce this server to a host from now on."""
        joined = self.joined.setdefault(host, Joined(host, given=given))
        joined.why = ""  # it is tried at once
        self.is_changed |= not given
        return joined

    def part(self, host: str) -> bool:
        """Announce this server there no more; return whether it was announced there."""
        joined = self.joined.pop(host, None)
        self.is_changed |= joined is not None and not joined.given
        return joined is not None

    def answer(self, host: str, words: Mapping[str, Any], now: float) -> bool:
        """Take in what a server has answered to an announcement; return whether it is new or back.

        Raises `ConfigurationError` if it makes no sense. Nothing has changed.
        """
        joined = self.joined.get(host)
        if joined is None:  # meanwhile somebody has said to leave it
            return False
        member = read_member(words).with_address(host, is_first=True)
        interval = _number(words, "again", 1.0, _LONGEST_INTERVAL)
        is_news = joined.heard < 0 or bool(joined.failed)
        self.is_changed |= is_news  # at least the id, by which the other one knows this server
        joined.member, joined.interval, joined.heard, joined.failed, joined.why = member, interval, now, 0, ""
        return is_news

    def miss(self, host: str, why: str) -> bool:
        """Record that a server was not reached; return whether this is news."""
        joined = self.joined.get(host)
        if joined is None:
            return False
        is_news = joined.why != why
        joined.failed += 1
        joined.why = why
        return is_news

    # --- time ---

    def step(self, now: float) -> list[Entry]:
        """Return the members that are missed from now on, and forget those that were missed for long."""
        missed = []
        for key, entry in list(self.announced.items()):
            if entry.gone is None and now - entry.heard > MISSES * entry.interval:
                entry.gone, self.is_changed = now, True
                missed.append(entry)
            elif entry.gone is not None and now - entry.gone > _LISTED_SECONDS:
                del self.announced[key]
                self.is_changed = True
        return missed

    # --- what is told of them ---

    def facts(self, now: float) -> Iterator[dict[str, object]]:
        """Yield what clients and administrators may know of each.

        ``gone`` is for how many seconds nothing was heard of one that is missed, else ``None``; ``how`` whether it
        announces itself or was joined.
        """
        for joined in self.joined.values():
            member = joined.member or Member("", joined.host, (joined.host,), 0)
            is_gone = joined.failed >= MISSES
            seconds = now - joined.heard if joined.heard > 0 else None
            yield {
                **member.as_json(),
                "how": "joined",
                "heard": seconds,
                "gone": is_gone,
                "why": joined.why,
            }
        for entry in self.announced.values():
            yield {
                **entry.member.as_json(),
                "how": "announces itself",
                "heard": now - entry.heard,
                "gone": entry.gone is not None,
                "why": entry.why,
            }

    # --- over restarts ---

    def dump(self) -> dict[str, object]:
        """Return what JSON can express of all that is kept."""
        return {
            "id": self.own,
            "members": [
                {
                    **entry.member.as_json(),
                    "source": source,
                    "interval": entry.interval,
                    "gone": entry.gone is not None,
                }
                for (_, source), entry in self.announced.items()
            ],
            "joined": [joined.host for joined in self.joined.values() if not joined.given],
        }

    def load(self, kept: Mapping[str, Any], now: float) -> list[str]:
        """Take in what `dump` has returned; the members have the usual time to announce themselves again.

        Return why each part that makes no sense was left out.
        """
        faults: list[str] = []
        for words in _list_of(kept, "members", MOST_MEMBERS, faults):
            try:
                self._restore(words, now)
            except ConfigurationError as error:
                faults.append(f"a member: {error}")
        for host in _list_of(kept, "joined", MOST_HOSTS, faults):
            try:
                self.join(_joined_host(host), given=False)
            except ConfigurationError as error:
                faults.append(f"a server to announce this one to: {error}")
        self.is_changed = bool(faults)
        return faults

    def _restore(self, words: Any, now: float) -> None:
        match words:
            case {"source": str(source), "gone": bool(is_gone)}:
                member = read_member(words)
                interval = _number(words, "interval", 1.0, _LONGEST_INTERVAL)
                self.announced[member.id, source] = Entry(
                    member, interval, now, gone=now if is_gone else None
                )
            case _:
                raise ConfigurationError(f"{words!r:.100} has no source and state")


def _list_of(kept: Mapping[str, Any], name: str, most: int, faults: list[str]) -> list[Any]:
    match kept.get(name):
        case [*found] if len(found) <= most:
            return found
    faults.append(f"{name}: this is no list of at most {most}")
    return []


def _joined_host(text: object) -> str:
    if not isinstance(text, str):
        raise ConfigurationError(f"{text!r:.100} is not a text")
    check_joined(text)
    return text


def _number(words: Mapping[str, Any], key: str, least: float, most: float) -> float:
    value = words.get(key)
    if not is_finite(value) or not least <= value <= most:
        raise ConfigurationError(
            f"{key} is a number of seconds from {least:g} to {most:g}, not {value!r:.20}"
        )
    return float(value)

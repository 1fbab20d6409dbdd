"""The members that one server knows: its direct neighbours, in both directions, and when it last heard from each.

No member learns of another's members, so the data that each server stores and sends grows only with the number of its
neighbours. A client asks one server after the other, see `pconnect.pool.closure`. (doc/decisions explains the cost.)
Nothing here knows the time or does I/O.

An announcement is nothing but an address, and may be false, even under the id of another server. So each announcement
carries a secret, which differs for every server that receives it. An entry can be changed and removed only with its
secret, and a false announcement creates a separate entry. The list stores the hash of the secret.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pserver.config.pool_options import LONGEST_INTERVAL, MOST_HOSTS, check_joined
from pserver.pool.member import Member, read_member
from srp_tools.errors import ConfigurationError
from srp_tools.rules.numbers import is_finite

MOST_MEMBERS = 1000
MOST_OF_SOURCE = 32  #: members that announce themselves from one address
MISSES = 4  # missed intervals after which a member counts as gone
_LISTED_SECONDS = 3600.0  # for which a gone member stays listed
# Time of this server: a login takes some hundredths of a second, so if there are many members, each comes less often.
_SECONDS_EACH = 0.5
# Messages may arrive out of order by at most this much. A message older than that was sent after a clock was set back.
_LATE_SECONDS = 60.0
_NEVER = -math.inf, -math.inf
_LOG_SECONDS = 600.0  # between two log lines about the same unreachable server
_SECRET = re.compile(r"[0-9a-f]{64}")
_LAST = 2.0**40  # the highest time of a clock, in seconds


class Whence(NamedTuple):
    """The origin of an announcement."""

    user: str  #: the user as which the server has logged in
    source: str  #: the address of the server
    seen_at: str = ""  #: the host built from that address; empty if it is of no use to others


@dataclass
class Entry:
    """A member, and what this server knows about it."""

    member: Member
    whence: Whence
    interval: float  #: seconds until its next announcement is expected
    heard: float  #: instant
    at: float = 0.0  #: time of the announcement, by its clock: earlier ones may arrive later
    gone: float | None = None  #: instant when it was first missed


@dataclass
class Joined:
    """A server to which this one announces itself, under the name that the user gave."""

    host: str
    member: Member | None = None  #: its answer; ``None``: none yet
    interval: float = 0.0  #: seconds until it wants the next announcement; 0: unknown
    heard: float = -math.inf  #: instant of its last answer
    failed: int = 0  #: number of failed attempts since
    why: str = ""  #: the last failure
    told: str = ""  #: the failure that was logged last
    told_at: float = -math.inf  #: instant when that was logged
    given: bool = True  #: whether it comes from the settings; otherwise an administrator has added it


@dataclass
class MemberList:
    """The neighbours of the server with the id `own`."""

    own: str
    #: By id and hash of the secret.
    announced: dict[tuple[str, str], Entry] = field(default_factory=dict)
    #: The times when members announced that they leave, by their clocks and by this server's.
    left: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    joined: dict[str, Joined] = field(default_factory=dict)  #: by host
    is_changed: bool = False  #: whether there are unsaved changes

    # --- announcements of others ---

    def announce(self, words: Mapping[str, Any], whence: Whence, now: float) -> tuple[Entry, bool]:
        """Process the announcement of a server; return its entry, and whether it is new or back.

        Raises `ConfigurationError` if the announcement makes no sense or comes too late, or if there are too many
        members; then nothing has changed.
        """
        said, at = read_member(words), _number(words, "at", 0.0, _LAST)
        if said.id == self.own:
            raise ConfigurationError("this is the server itself: a server joins only others")
        interval = _number(words, "interval", 1.0, LONGEST_INTERVAL)
        key = said.id, _hash_of(words)
        before = self.announced.get(key)
        if _is_late(at, self.left.get(key, _NEVER)[0] if before is None else before.at):
            raise ConfigurationError(
                "it was sent before the last announcement from this server: announce it again"
            )
        member = said
        if whence.seen_at:
            member = said.with_address(whence.seen_at, is_first=words.get("advertised") is not True)
        if not member.addresses:
            raise ConfigurationError("it has no address at which others can reach it: give --advertise")
        if before is None:
            self._make_room(whence.source)
        wanted = max(interval, _SECONDS_EACH * (len(self.announced) + (before is None)))
        entry = Entry(member, whence, wanted, now, at)
        is_news = before is None or before.gone is not None
        self.is_changed |= is_news or before is None or (before.member, before.whence) != (member, whence)
        self.announced[key] = entry
        return entry, is_news

    def _make_room(self, source: str) -> None:
        """If there are too many members, drop one: a gone one, or the one heard from longest ago."""
        alike = {key: entry for key, entry in self.announced.items() if entry.whence.source == source}
        gone = {key: entry for key, entry in self.announced.items() if entry.gone is not None}
        if len(alike) >= MOST_OF_SOURCE:
            del self.announced[min(alike, key=lambda key: (alike[key].gone is None, alike[key].heard))]
        elif len(self.announced) >= MOST_MEMBERS:
            if not gone:
                raise ConfigurationError(
                    f"the server already has {MOST_MEMBERS} members, which is the limit: announce yours to another one"
                )
            del self.announced[min(gone, key=lambda key: gone[key].heard)]

    def leave(self, words: Mapping[str, Any], now: float) -> Member | None:
        """Remove a server that leaves, and return it; ``None`` if it was not here, or is already back.

        Raises `ConfigurationError` if the message makes no sense.
        """
        key, at = (str(words.get("id")), _hash_of(words)), _number(words, "at", 0.0, _LAST)
        entry = self.announced.get(key)
        if entry is None or _is_late(at, entry.at):
            return None
        self.left[key] = at, now
        while len(self.left) > MOST_MEMBERS:
            del self.left[next(iter(self.left))]
        return self._drop([key])[0]

    def forget(self, what: str) -> list[Member]:
        """Remove the members that have announced themselves under an id, or from an address; return them."""
        return self._drop(
            [key for key, entry in self.announced.items() if what in {key[0], entry.whence.source}]
        )

    def keep_users(self, is_user: Callable[[str], bool]) -> list[Member]:
        """Remove the members that have logged in as users that no longer exist; return them."""
        known = {user: is_user(user) for user in {entry.whence.user for entry in self.announced.values()}}
        return self._drop([key for key, entry in self.announced.items() if not known[entry.whence.user]])

    def _drop(self, keys: Sequence[tuple[str, str]]) -> list[Member]:
        self.is_changed |= bool(keys)
        return [self.announced.pop(key).member for key in keys]

    # --- the servers to which this one announces itself ---

    def join(self, host: str, *, given: bool) -> Joined:
        """Announce this server to a host from now on."""
        joined = self.joined.setdefault(host, Joined(host, given=given))
        joined.why = ""  # it is tried immediately
        self.is_changed |= not given
        return joined

    def part(self, host: str) -> bool:
        """Stop announcing this server to a host; return whether it was announced there."""
        joined = self.joined.pop(host, None)
        self.is_changed |= joined is not None and not joined.given
        return joined is not None

    def answer(self, host: str, words: Mapping[str, Any], now: float) -> bool:
        """Process a server's answer to an announcement; return whether it is new or back.

        Raises `ConfigurationError` if the answer makes no sense; then nothing has changed.
        """
        joined = self.joined.get(host)
        if joined is None:  # an administrator has removed it in the meantime
            return False
        member = read_member(words).with_address(host, is_first=True)
        interval = _number(words, "again", 1.0, LONGEST_INTERVAL)
        is_news = joined.heard < 0 or bool(joined.told)
        self.is_changed |= joined.member is None  # the other one knows this server now
        joined.member, joined.interval, joined.heard = member, interval, now
        joined.failed, joined.why, joined.told = 0, "", ""
        return is_news

    def miss(self, host: str, why: str, now: float) -> bool:
        """Record that a server could not be reached; return whether to log that.

        The other server chooses the text of the error, so a changed text alone is not worth a line each time.
        """
        joined = self.joined.get(host)
        if joined is None:
            return False
        joined.failed += 1
        joined.why = why
        if why == joined.told or now - joined.told_at < _LOG_SECONDS:
            return False
        joined.told, joined.told_at = why, now
        return True

    # --- time ---

    def step(self, now: float) -> list[Entry]:
        """Return the members that are missed from now on, and drop those that have been gone for long."""
        missed = []
        self.left = {key: said for key, said in self.left.items() if now - said[1] < _LATE_SECONDS}
        for key, entry in list(self.announced.items()):
            if entry.gone is None and now - entry.heard > MISSES * entry.interval:
                entry.gone, self.is_changed = now, True
                missed.append(entry)
            elif entry.gone is not None and now - entry.gone > _LISTED_SECONDS:
                del self.announced[key]
                self.is_changed = True
        return missed

    # --- reports about them ---

    def facts(self, now: float) -> Iterator[dict[str, object]]:
        """Yield the facts about each member that clients may know, see doc/protocol.md."""
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
                "why": "",
            }

    def all_facts(self, now: float) -> list[dict[str, object]]:
        """Return the facts that administrators may know: they include the user and source of each announcement."""
        known = [None] * len(self.joined) + [entry.whence for entry in self.announced.values()]
        return [
            each | {"from": whence and whence.source, "user": whence and whence.user}
            for each, whence in zip(self.facts(now), known, strict=True)
        ]

    # --- restarts ---

    def dump(self) -> dict[str, object]:
        """Return everything that is stored, in a form for JSON."""
        return {
            "members": [
                {
                    **entry.member.as_json(),
                    "source": entry.whence.source,
                    "user": entry.whence.user,
                    "secret": secret,
                    "interval": entry.interval,
                    "gone": entry.gone is not None,
                }
                for (_, secret), entry in self.announced.items()
            ],
            "joined": [joined.host for joined in self.joined.values() if not joined.given],
        }

    def load(self, kept: Mapping[str, Any], now: float) -> list[str]:
        """Load the result of `dump`; the members have the usual time to announce themselves again.

        Return the reason for each part that makes no sense and was skipped.
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
            case {"source": str(source), "user": str(user), "secret": str(secret), "gone": bool(is_gone)}:
                member, whence = read_member(words), Whence(user, source)
                interval = _number(words, "interval", 1.0, LONGEST_INTERVAL)
                entry = Entry(member, whence, interval, now, gone=now if is_gone else None)
                self.announced[member.id, secret] = entry
            case _:
                raise ConfigurationError("it lacks its source, user or secret, or whether it is gone")


def _hash_of(words: Mapping[str, Any]) -> str:
    secret = words.get("secret")
    if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
        raise ConfigurationError("the secret of a server must have 64 hexadecimal digits")
    return hashlib.sha256(secret.encode()).hexdigest()


def _is_late(at: float, last: float) -> bool:
    return last - _LATE_SECONDS < at < last


def _list_of(kept: Mapping[str, Any], name: str, most: int, faults: list[str]) -> list[Any]:
    match kept.get(name):
        case [*found] if len(found) <= most:
            return found
    faults.append(f"{name}: not a list of at most {most} entries")
    return []


def _joined_host(text: object) -> str:
    if not isinstance(text, str):
        raise ConfigurationError(f"{text!r:.100} is not a string")
    check_joined(text)
    return text


def _number(words: Mapping[str, Any], key: str, least: float, most: float) -> float:
    value = words.get(key)
    if not is_finite(value) or not least <= value <= most:
        raise ConfigurationError(
            f"{key} must be a number of seconds from {least:g} to {most:g}, not {value!r:.20}"
        )
    return float(value)

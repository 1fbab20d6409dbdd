"""Which servers there are in a pool, as far as the client has heard, until nobody names a new one. No I/O.

The client starts with the servers that the user has named. It logs in at each, asks it for its neighbours, and goes on
with those that it does not know yet, round after round. A server is known by its id, which it proves in its login, and
not by its address: one that is reached in two ways is one node. What a server says of others is no more than addresses
to try: none of them is believed before it has proved that it has the user's verifier.

A member may have several addresses, of which some lead elsewhere: each machine has a 127.0.0.1, and many have the same
private addresses. So they are tried in order, and one at which another server answers is passed over.
"""

import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pconnect.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionLostError,
    ServerBusyError,
    ServerRefusedError,
)
from pconnect.link.host_names import Host, parse_hosts

_MOST_SERVERS = 10_000  # of one network: what names more is no pool
_MOST_HOSTS = 32  # to be tried for one server
_MOST_SOURCES = 3  # that are told for one server
# Of errors; they stay what they are.
_KINDS = (
    TimeoutError,
    AuthenticationError,
    ServerBusyError,
    ServerRefusedError,
)
_LOCAL_NAMES = {"localhost", "ip6-localhost", "localhost.localdomain"}

Place = tuple[str, int]  # name or address, and port


@dataclass(eq=False)
class Candidate:
    """A server that may be there."""

    label: str  #: as the user or another server has named it
    hosts: list[Host]  #: where to try, in this order; those that were tried are gone from it
    id: str = ""  #: which server it is; empty: it may be any
    errors: list[Exception] = field(default_factory=list)  #: why it was not reached
    is_reached: bool = False
    is_deferred: bool = False  #: it comes after all that are found later
    is_other: bool = False  #: a server that is known already, by another name
    #: All places that were named for it, and how many came before each in the line that named it.
    seen: dict[Place, int] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)  #: the servers that have named it
    heard: float = math.inf  #: seconds since one of them has heard of it
    is_joined: bool = False  #: whether the administrator of one of them has named it there

    def add(self, hosts: Sequence[Host]) -> None:
        """Have it tried at more places, if they are new: first at the first of each line."""
        for rank, host in enumerate(hosts):
            place = host.name, host.port
            if place not in self.seen and len(self.seen) < _MOST_HOSTS:
                self.seen[place] = rank
                self.hosts.append(host)
        self.hosts.sort(key=lambda host: self.seen[host.name, host.port])

    def give_up(self, why: Exception) -> None:
        """Record why it was not reached; it is tried no more, unless somebody names other places for it."""
        self.errors.append(why)
        self.hosts.clear()

    def defer(self, why: Exception) -> None:
        """Record why it was not reached, and have its other places tried after all that is found later."""
        self.errors.append(why)
        self.is_deferred = True

    def note(self, source: str, member: Mapping[str, Any]) -> None:
        """Record what a server says of it."""
        if source not in self.sources and len(self.sources) < _MOST_SOURCES:
            self.sources.append(source)
        self.is_joined |= member["how"] == "joined"
        if member["heard"] is not None:
            self.heard = min(self.heard, member["heard"])

    @property
    def doubt(self) -> tuple[object, ...]:
        """What sorts servers that were found: those that are most likely there come first."""
        return not self.is_joined, self.heard, len(self.seen)

    def explain(self) -> Exception:
        """Return why it was not reached, with the servers that have named it."""
        error = self.errors[-1]
        if not self.sources:
            return error
        kind = next((kind for kind in _KINDS if isinstance(error, kind)), ConnectionLostError)
        explained = kind(f"{error} (named by {', '.join(self.sources)})")
        explained.__cause__ = error
        return explained


class Closure:
    """`given`: the servers that the user has named, each as often as it is to have nodes."""

    def __init__(self, given: Sequence[Host]) -> None:
        self.rounds = 0  #: so far
        self._candidates: dict[Place | str, Candidate] = {}  # by id, or where it is if that is not known
        self._known: dict[str, Candidate] = {}  # the servers that were reached, by id
        self._reached: set[Place] = set()
        self._gone: dict[
            str, tuple[str, str]
        ] = {}  # label and words of members that are missed, by id or label
        for host in given:
            self._candidate((host.name, host.port), host.label, "").add([host])
        #: The servers that the user has named, in that order, with repetitions.
        self.given = [self._candidates[host.name, host.port] for host in given]

    def _candidate(self, key: Place | str, label: str, id_: str) -> Candidate:
        return self._candidates.setdefault(key, Candidate(label, [], id_))

    def next_round(self) -> list[Candidate]:
        """Return the servers to log in at now, in the order in which they were named; none: all are found."""
        found = [
            each
            for each in self._candidates.values()
            if each.hosts and not each.is_reached and not each.is_other and each.id not in self._known
        ]
        self.rounds += bool(found)
        return [each for each in found if not each.is_deferred] or found

    # --- what comes of it ---

    def identify(self, candidate: Candidate, id_: str) -> bool:
        """Return whether the server that answers is the one that was to be reached, and is new.

        It is reached from now on. `id_`: as it says itself; empty if it does not say.
        """
        if id_ in self._known:
            candidate.is_other = candidate.id in {"", id_}  # else the one that was meant may be elsewhere
            return False
        if candidate.id and id_ != candidate.id:
            return False
        candidate.is_reached = True
        if id_:
            self._known[id_] = candidate
        return True

    def tell(self, source: str, answer: Mapping[str, Any]) -> None:
        """Take in the neighbours of a server, which was reached at the address `source`."""
        for member in answer["members"]:
            self._take(source, member)

    def _take(self, source: str, member: Mapping[str, Any]) -> None:
        id_ = member["id"]
        if id_ in self._known:
            return
        hosts = hosts_of(member["addresses"], source)
        if not hosts:
            return
        if not id_ and any((host.name, host.port) in self._reached for host in hosts):
            return
        label = hosts[0].label
        if member["gone"]:
            why = member["why"] or f"it was not heard for {member['heard'] or 0:.0f} s"
            self._gone[id_ or label] = label, f"{member['name']} is gone: {why}"
            return
        key: Place | str = id_ or (hosts[0].name, hosts[0].port)
        if key in self._candidates or len(self._candidates) < _MOST_SERVERS:
            candidate = self._candidate(key, label, id_)
            candidate.add(hosts)
            candidate.note(source, member)

    def reach(self, host: Host) -> None:
        """Record where a server was reached."""
        self._reached.add((host.name, host.port))

    def missing(self) -> dict[str, Exception]:
        """Return why each server is missing that was named and not reached, by its label."""
        failed = {
            each.label: each.explain()
            for each in self._candidates.values()
            if each.errors and not each.is_reached and not each.is_other and each.id not in self._known
        }
        gone: dict[str, Exception] = {
            label: ConnectionLostError(words)
            for id_, (label, words) in self._gone.items()
            if id_ not in self._known and not self._is_reached(label)
        }
        return gone | failed

    def _is_reached(self, label: str) -> bool:
        return any((host.name, host.port) in self._reached for host in parse_hosts(label))


def by_doubt(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return servers that were found, those first that are most likely there; each source has its turn.

    So a server that names many which are not there puts off those that others name only a little.
    """
    turns: dict[str, int] = {}
    turn_of: dict[Candidate, int] = {}
    for each in sorted(candidates, key=lambda each: each.doubt):
        turn_of[each] = min((turns.get(source, 0) for source in each.sources), default=0)
        turns |= {source: turns.get(source, 0) + 1 for source in each.sources}
    return sorted(turn_of, key=turn_of.__getitem__)


#: What may be said of a member, the best first.
STATES = HERE, NOT_REACHED, GONE = "here", "not reached", "gone"


def state_of(member: Mapping[str, Any]) -> str:
    """Return whether a member is there, as the server says that names it."""
    if member["gone"]:
        return GONE
    return HERE if member["id"] and not member["why"] else NOT_REACHED


def hosts_of(addresses: Sequence[str], source: str) -> list[Host]:
    """Return where a server may be that another one names; those that cannot be understood are left out.

    `source`: the address of the server that names it, or the path of its socket. What is a loopback address there, is
    that server's machine.

    Examples
    --------
    >>> [host[1:3] for host in hosts_of(["127.0.0.1:12600", "beta", "a b"], "10.0.0.5")]
    [('10.0.0.5', 12600), ('beta', 12502)]
    """
    found: list[Host] = []
    for text in addresses:
        try:
            [host] = parse_hosts([text])
        except (ConfigurationError, ValueError):
            continue
        if host.is_socket:  # of this machine, which no server can know
            continue
        if _is_loopback(host.name) and not source.startswith("/") and source != host.name:
            shown = f"[{source}]" if ":" in source else source
            host = parse_hosts([f"{shown}:{host.port}"])[0]
        found.append(host)
    return found


def _is_loopback(name: str) -> bool:
    if name in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

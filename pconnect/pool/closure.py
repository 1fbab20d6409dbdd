"""The servers of a pool as far as the client knows them, extended until no server names a new one. No I/O.

The client starts with the servers that the user has named. It logs in at each, asks it for its neighbours, and
continues with the new ones, round after round. A server is identified by its id, which it proves during login, and not
by its address: a server reached in two ways is one node. A server's statements about others are only addresses to try:
the client trusts none of those servers before it has proved that it has the user's verifier.

A member may have several addresses, and some of them may lead elsewhere: each machine has a 127.0.0.1, and many
machines share the same private addresses. The addresses are therefore tried in order, and one where another server
answers is skipped.
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

_MOST_SERVERS = 10_000  # in one network: a longer list does not come from a real pool
_MOST_HOSTS = 32  # addresses to try for one server
_MOST_SOURCES = 3  # named in the error of one server
# Types of errors that explanations preserve.
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
    """A server that may belong to the pool."""

    label: str  #: the name given by the user or another server
    hosts: list[Host]  #: addresses to try, in this order; tried addresses are removed
    id: str = ""  #: the server's id; empty if any server will do
    errors: list[Exception] = field(default_factory=list)  #: why it was not reached
    is_reached: bool = False
    is_deferred: bool = False  #: whether it is tried after all servers found later
    is_other: bool = False  #: whether it is a known server under another name
    #: All addresses given for it, with the position of each in its list.
    seen: dict[Place, int] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)  #: the servers that have named it
    heard: float = math.inf  #: seconds since one of them has heard from it
    is_joined: bool = False  #: whether the administrator of one of them has added it there

    def add(self, hosts: Sequence[Host]) -> None:
        """Add new addresses; the first ones of each list are tried first."""
        for rank, host in enumerate(hosts):
            place = host.name, host.port
            if place not in self.seen and len(self.seen) < _MOST_HOSTS:
                self.seen[place] = rank
                self.hosts.append(host)
        self.hosts.sort(key=lambda host: self.seen[host.name, host.port])

    def give_up(self, why: Exception) -> None:
        """Record why it was not reached; it is not tried again unless a server names new addresses for it."""
        self.errors.append(why)
        self.hosts.clear()

    def defer(self, why: Exception) -> None:
        """Record why it was not reached; its other addresses are tried after all servers found later."""
        self.errors.append(why)
        self.is_deferred = True

    def note(self, source: str, member: Mapping[str, Any]) -> None:
        """Record the entry for it in another server's list."""
        if source not in self.sources and len(self.sources) < _MOST_SOURCES:
            self.sources.append(source)
        self.is_joined |= member["how"] == "joined"
        if member["heard"] is not None:
            self.heard = min(self.heard, member["heard"])

    @property
    def doubt(self) -> tuple[object, ...]:
        """Sort key for found servers: those that are most likely available come first."""
        return not self.is_joined, self.heard, len(self.seen)

    def explain(self) -> Exception:
        """Return why it was not reached; the text includes the servers that have named it."""
        error = self.errors[-1]
        if not self.sources:
            return error
        kind = next((kind for kind in _KINDS if isinstance(error, kind)), ConnectionLostError)
        explained = kind(f"{error} (named by {', '.join(self.sources)})")
        explained.__cause__ = error
        return explained


class Closure:
    """All servers found so far. `given`: the servers that the user has named, once for each node wanted there."""

    def __init__(self, given: Sequence[Host]) -> None:
        self.rounds = 0  #: so far
        self._candidates: dict[Place | str, Candidate] = {}  # by id, or by address while the id is unknown
        self._known: dict[str, Candidate] = {}  # the servers that were reached, by id
        self._reached: set[Place] = set()
        # Label and explanation of missing members, by id or label.
        self._gone: dict[str, tuple[str, str]] = {}
        for host in given:
            self._candidate((host.name, host.port), host.label, "").add([host])
        #: The servers that the user has named, in that order, with repetitions.
        self.given = [self._candidates[host.name, host.port] for host in given]

    def _candidate(self, key: Place | str, label: str, id_: str) -> Candidate:
        return self._candidates.setdefault(key, Candidate(label, [], id_))

    def next_round(self) -> list[Candidate]:
        """Return the servers to log in at next, in the order in which they were named; empty if all are found."""
        found = [
            each
            for each in self._candidates.values()
            if each.hosts and not each.is_reached and not each.is_other and each.id not in self._known
        ]
        self.rounds += bool(found)
        return [each for each in found if not each.is_deferred] or found

    # --- results of logins ---

    def identify(self, candidate: Candidate, id_: str) -> bool:
        """Return whether the server that answers is the expected one, and is new.

        If so, it counts as reached. `id_`: the id that the server reports; empty if it reports none.
        """
        if id_ in self._known:
            candidate.is_other = candidate.id in {"", id_}  # otherwise the expected server may be elsewhere
            return False
        if candidate.id and id_ != candidate.id:
            return False
        candidate.is_reached = True
        if id_:
            self._known[id_] = candidate
        return True

    def tell(self, source: str, answer: Mapping[str, Any]) -> None:
        """Add the neighbours reported by a server, which was reached at the address `source`."""
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
            why = member["why"] or f"nothing was heard from it for {member['heard'] or 0:.0f} s"
            self._gone[id_ or label] = label, f"{member['name']} is gone: {why}"
            return
        key: Place | str = id_ or (hosts[0].name, hosts[0].port)
        if key in self._candidates or len(self._candidates) < _MOST_SERVERS:
            candidate = self._candidate(key, label, id_)
            candidate.add(hosts)
            candidate.note(source, member)

    def reach(self, host: Host) -> None:
        """Record an address where a server was reached."""
        self._reached.add((host.name, host.port))

    def missing(self) -> dict[str, Exception]:
        """Return, by label, why each named server is missing that was not reached."""
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
    """Return found servers, the most likely available first; the servers that named them take turns.

    A server that names many unavailable servers thus does not delay those that other servers name.
    """
    turns: dict[str, int] = {}
    turn_of: dict[Candidate, int] = {}
    for each in sorted(candidates, key=lambda each: each.doubt):
        turn_of[each] = min((turns.get(source, 0) for source in each.sources), default=0)
        turns |= {source: turns.get(source, 0) + 1 for source in each.sources}
    return sorted(turn_of, key=turn_of.__getitem__)


#: The states of a member, the best first.
STATES = HERE, NOT_REACHED, GONE = "here", "not reached", "gone"


def state_of(member: Mapping[str, Any]) -> str:
    """Return the state of a member, as reported by the server that names it."""
    if member["gone"]:
        return GONE
    return HERE if member["id"] and not member["why"] else NOT_REACHED


def hosts_of(addresses: Sequence[str], source: str) -> list[Host]:
    """Return the addresses of a server named by another one, without invalid ones.

    `source`: the address of the server that names it, or the path of its socket. A loopback address there means the
    machine of that server.

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
        if host.is_socket:  # on this machine, which another server cannot know
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

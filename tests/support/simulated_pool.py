"""A pool of many servers in one process: the real member lists and the real closure, with calls as messages.

Run as a module, it prints the figures of doc/decisions: ``python -m tests.support.simulated_pool``.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pconnect.link.host_names import parse_hosts
from pconnect.pool.closure import Candidate, Closure
from pserver.pool.member import host_text
from pserver.pool.member_list import MemberList, Whence

COUNT = 500
INTERVAL = 30.0
Joins = Mapping[int, Iterable[int]]

TOPOLOGIES: Mapping[str, Callable[[int], Joins]] = {
    "chain": lambda n: {k: [k + 1] for k in range(n - 1)},
    "ring": lambda n: {k: [(k + 1) % n] for k in range(n)},
    "star": lambda n: {k: [0] for k in range(1, n)},
    "random": lambda n: {k: random.Random(k).sample(range(k), min(k, 3)) for k in range(1, n)},
}


def address(server: int) -> str:
    return f"10.{server // 250}.0.{1 + server % 250}"


@dataclass
class Counts:
    """Counts of messages."""

    logins: dict[int, int] = field(default_factory=dict)  #: received by each server
    bytes_told: dict[int, int] = field(default_factory=dict)  #: sent by each server

    def count(self, server: int, told: object) -> None:
        self.logins[server] = self.logins.get(server, 0) + 1
        self.bytes_told[server] = self.bytes_told.get(server, 0) + len(json.dumps(told))


class SimulatedPool:
    """Servers by number, each of which has joined others. `dead`: servers that no longer answer."""

    def __init__(self, count: int, joins: Joins) -> None:
        self.servers = [MemberList(f"{number:032x}") for number in range(count)]
        self.announced = Counts()
        self.dead: set[int] = set()
        self._at = {address(number): number for number in range(count)}
        for number, others in joins.items():
            for other in others:
                self.servers[number].join(address(other), given=True)

    def announce(self, now: float) -> None:
        """Have each server announce itself to the servers that it has joined, as if all were due."""
        for number, members in enumerate(self.servers):
            if number in self.dead:
                continue
            members.step(now)
            for host in list(members.joined):
                other = self._at[host]
                if other in self.dead:
                    members.miss(host, "nothing answers", now)
                    continue
                words = self._words(number) | {"interval": INTERVAL, "at": now, "secret": f"{number:064x}"}
                whence = Whence("member+pool", address(number), host_text(address(number), 12502))
                entry, _ = self.servers[other].announce(words, whence, now)
                answer = self._words(other) | {"again": entry.interval}
                members.answer(host, answer, now)
                self.announced.count(other, answer)

    def _words(self, number: int) -> dict[str, object]:
        return {
            "id": self.servers[number].own,
            "name": f"server{number}",
            "addresses": [address(number)],
            "slots": 8,
        }

    def find(self, start: int, now: float) -> tuple[Closure, list[int], Counts]:
        """Search as a client from one server; return the servers found, in order, and the cost."""
        closure, found, counts = Closure(parse_hosts(address(start))), [], Counts()
        while candidates := closure.next_round():
            reached = [
                number for each in candidates if (number := self._log_in(closure, each, counts)) is not None
            ]
            for number in reached:
                told = {"id": self.servers[number].own, "members": list(self.servers[number].facts(now))}
                counts.bytes_told[number] = len(json.dumps(told))
                closure.tell(address(number), told)
            found += reached
        return closure, found, counts

    def _log_in(self, closure: Closure, candidate: Candidate, counts: Counts) -> int | None:
        while candidate.hosts:
            host = candidate.hosts.pop(0)
            number = self._at[host.name]
            if number in self.dead:
                candidate.errors.append(OSError("nothing answers"))
                continue
            counts.count(number, {})
            if closure.identify(candidate, self.servers[number].own):
                closure.reach(host)
                return number
        return None


def main() -> None:
    """Print a row for each topology."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    print(f"{count} servers")
    heads = (
        "topology",
        "announcements",
        "at one server",
        "logins",
        "at one server",
        "rounds",
        "KB told",
        "by one",
        "s",
    )
    print("| " + " | ".join(heads) + " |")
    for name, topology in TOPOLOGIES.items():
        pool = SimulatedPool(count, topology(count))
        pool.announce(1.0)
        began = time.perf_counter()
        closure, _, counts = pool.find(count - 1, 2.0)
        seconds = time.perf_counter() - began
        announced, told = pool.announced.logins.values(), counts.bytes_told.values()
        row = (
            name, sum(announced), max(announced), sum(counts.logins.values()), max(counts.logins.values()),
            closure.rounds, sum(told) // 1000, max(told) // 1000, f"{seconds:.2f}",
        )  # fmt: skip
        print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()

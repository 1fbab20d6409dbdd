"""Schedules the announcements of this server: each host has its own interval, and one process does all that are due.

The starter forks that process, see `pserver.pool.announcer`. There is only one at a time. If it ends without a result
for a host, the announcement counts as failed.
"""

import logging
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from pserver.pool.member import ANSWER_BYTES, ROUND_SECONDS
from pserver.pool.member_list import Joined, MemberList
from pserver.system.descriptors import json_object
from srp_tools.errors import ConfigurationError

log = logging.getLogger("pserver")

_PATIENCE = ROUND_SECONDS + 10.0  # for the whole process, which also has its own deadline
_TOGETHER = 0.1  # of an interval: announcements that are due this soon join the current round

Request = Callable[[Mapping[str, object], Sequence[int]], object]


class Announcing:
    """The announcements of this server.

    `selector`: the daemon's. `request`: sends a request to the starter. `order`: returns the content of announcements.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        members: MemberList,
        request: Request,
        order: Callable[[], Mapping[str, object]],
        interval: Callable[[], float],
    ) -> None:
        self._selector = selector
        self._members = members
        self._request = request
        self._order = order
        self._interval = interval
        self._at = 0.0  # the time of the last message; it increases even if the clock goes back
        self._due: dict[str, float] = {}  # the time of the next announcement by host
        self._sock: socket.socket | None = None  # for the answers
        self._waiting: set[str] = set()  # the hosts without an answer so far
        self._deadline = 0.0

    def time_left(self) -> float | None:
        """Return the seconds until `step` has something to do; ``None``: not before an event."""
        now = time.monotonic()
        if self._sock is not None:
            return max(0.0, self._deadline - now)
        if self._members.joined.keys() - self._due.keys():
            return 0.0
        return max(0.0, min(self._due.values()) - now) if self._due else None

    def step(self) -> None:
        """Announce this server to the hosts that are due."""
        now = time.monotonic()
        if self._sock is not None:
            if now >= self._deadline:
                self._end_round(f"timed out after {_PATIENCE:g} s waiting for an answer")
            return
        for host in [host for host in self._due if host not in self._members.joined]:
            del self._due[host]
        soon = now + _TOGETHER * self._interval()
        if any(self._due.get(host, now) <= now for host in self._members.joined):
            self._begin([host for host in self._members.joined if self._due.get(host, now) <= soon], now)

    def announce_now(self, host: str) -> None:
        """Announce this server to a host as soon as possible."""
        self._due.pop(host, None)

    def _begin(self, hosts: list[str], now: float) -> None:
        words = {"do": "announce", "interval": self._interval()}
        for host in hosts:
            self._due[host] = now + self._wait_for(self._members.joined[host])
        sock = self._send(hosts, words)
        if sock is not None:
            self._sock, self._waiting, self._deadline = sock, set(hosts), now + _PATIENCE
            self._selector.register(sock, selectors.EVENT_READ, self._hear)

    def _wait_for(self, joined: Joined) -> float:
        return max(self._interval(), joined.interval)

    def leave(self, hosts: Iterable[str]) -> None:
        """Tell hosts that this server is no longer their member, without waiting for answers."""
        known = [host for host in hosts if host]
        if known:
            sock = self._send(known, {"do": "leave"})
            if sock is not None:
                sock.close()

    def _send(self, hosts: list[str], words: dict[str, object]) -> socket.socket | None:
        """Have a process send a message to hosts; return the socket for the answers, ``None`` on failure."""
        order = dict(self._order())
        own = order.pop("words")
        assert isinstance(own, dict)  # noqa: S101 - the daemon's
        sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            with theirs:
                self._at = max(time.time(), self._at + 0.001)
                words = {**own, **words, "at": self._at}
                self._request({"announce": {**order, "hosts": hosts, "words": words}}, [theirs.fileno()])
        except OSError as error:
            log.error("cannot announce this server: %s", error)
            sock.close()
            return None
        return sock

    # --- answers ---

    def _hear(self) -> None:
        assert self._sock is not None  # noqa: S101 - it is being watched
        try:
            data = self._sock.recv(ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end_round("the announcing process has ended")
            return
        match json_object(data):
            case {"host": str(host), "ok": dict(facts)} if host in self._waiting:
                self._waiting.discard(host)
                self._take(host, facts)
            case {"host": str(host), "error": str(why)} if host in self._waiting:
                self._waiting.discard(host)
                self._miss(host, why)

    def _take(self, host: str, facts: Mapping[str, object]) -> None:
        now = time.monotonic()
        try:
            is_news = self._members.answer(host, facts, now)
        except ConfigurationError as error:
            self._miss(host, f"its answer makes no sense: {error}")
            return
        if (joined := self._members.joined.get(host)) is not None:
            self._due[host] = now + self._wait_for(joined)
            if is_news and joined.member is not None:
                log.info(
                    "announced this server to %s, where the server %s is running", host, joined.member.name
                )

    def _miss(self, host: str, why: str) -> None:
        if self._members.miss(host, why, time.monotonic()):
            log.warning("could not announce this server to %s: %s", host, why)

    def _end_round(self, why: str) -> None:
        self.close()
        for host in self._waiting:
            self._miss(host, why)
        self._waiting = set()

    def close(self) -> None:
        """Stop waiting for answers."""
        if self._sock is not None:
            self._selector.unregister(self._sock)
            self._sock.close()
            self._sock = None

"""A network that follows its pool: `pconnect(elastic=True)` adds new servers while jobs wait for a slot.

Each search for new servers runs in its own thread. The scheduler's thread starts a search while there are more jobs
than slots, however the user waits for results, so no result is delayed by a server that is slow to connect. The thread
uses the network like a user's thread that calls `net.add`; calls of the user that change nodes wait until it has added
the nodes it found.

Servers' statements about others may be false or old, so a search is cheap in any case: it ends after some seconds,
tries a few servers side by side, and waits longer after each failure of a server. A server where login fails uses no
node number, and the other nodes are not notified. The network gets one engine from each server: see
`pconnect.pool.reaching`.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pconnect.errors import ConfigurationError
from pconnect.growth.adding import MakeConnection, changing, take_in
from pconnect.growth.logins import drop
from pconnect.link.host_names import Host
from pconnect.pool.further import further_hosts
from pconnect.pool.reaching import Reached, reach
from pconnect.session.client_mesh import ClientMesh
from srp_tools.steps import deadline_after

log = logging.getLogger("pconnect")

DEFAULT_INTERVAL = 5.0  # seconds between searches
_ASK_SECONDS = 2.0  # for the answers of the servers
_REACH_SECONDS = 10.0  # for the logins
_TAKE_SECONDS = 30.0  # to connect the engines, and to send them the values of `net.broadcast`
_TOGETHER = 16  # servers in one search: each login costs this process some hundredths of a second
_LONGEST_PAUSE = 300.0  # before an unreachable server is tried again
# A server that accepted the login but did not become a member has used a number, and has ended collective calls.
_COSTLY_PAUSE = 600.0
_LONGEST_COSTLY_PAUSE = 7200.0
_END_SECONDS = 5.0  # for a search in progress when the network is closed


def interval_of(elastic: bool | float) -> float:
    """Return the interval in seconds at which a network asks for new servers; 0 if it never does.

    Raises `ConfigurationError` if the option of `pconnect` is invalid.
    """
    if isinstance(elastic, bool):
        return DEFAULT_INTERVAL if elastic else 0.0
    if not isinstance(elastic, int | float) or not 0.0 < elastic < float("inf"):
        raise ConfigurationError(f"elastic={elastic!r} is not allowed: give True, False, or seconds")
    return float(elastic)


@dataclass
class _Failure:
    """The record of a server that could not be added."""

    label: str  #: its name in ``net.missing``
    count: int
    pause: float  #: the last pause
    next_at: float  #: the instant of the next attempt


class Following:
    """Looks for new servers for one network.

    `interval`: from `interval_of`. `make`: see `pconnect.growth.adding.add_nodes`. `clock`: like `time.monotonic`.
    """

    def __init__(
        self,
        mesh: ClientMesh,
        interval: float,
        make: MakeConnection,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mesh = mesh
        self._interval = interval
        self._make = make
        self._clock = clock
        self._due = clock() + interval
        self._failures: dict[str, _Failure] = {}  # by id; only for servers that are still listed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None  # the thread of the current search
        self._changing: threading.Thread | None = None  # the thread that is adding nodes
        mesh.after_close.append(self._end)

    def begin(self) -> None:
        """Start a search for new servers in a thread if one is due; callable from any thread, never blocks."""
        with self._lock:
            if self._clock() < self._due:
                return
            self._due = math.inf  # until this search has ended
            self._thread = threading.Thread(target=self._run, name="pconnect pool", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # too many threads, or the program is exiting
            self._thread, self._due = None, self._clock() + self._interval
            log.warning("cannot look for new servers of the pool: %s", error)

    def wait(self) -> None:
        """Wait until no nodes are being added; for other calls that change nodes."""
        if self._changing not in {None, threading.current_thread()}:
            with contextlib.suppress(TimeoutError):
                self._mesh.event_loop.run_until(
                    lambda: self._changing is None, deadline_after(2 * _TAKE_SECONDS), "servers of the pool"
                )

    def look(self) -> None:
        """Add the new servers of the pool."""
        listed = further_hosts(self._mesh, _ASK_SECONDS)
        self._forget_unlisted(listed)
        wanted = self._choose(listed)
        if not wanted:
            return
        self._mesh.renew_certificates()
        found, failures = reach(self._mesh, wanted, deadline_after(_REACH_SECONDS))
        for id_, error in failures.items():
            self._note_failure(id_, listed[id_][0], error)
        try:
            failed = self._take_in(found)
        finally:
            drop(self._mesh, [each.server for node, each in found.items() if not self._has(node, each)])
        for node, each in found.items():
            if node in failed:
                self._note_failure(each.id, each.host, failed[node], is_costly=True)
            elif self._has(node, each):
                self._failures.pop(each.id, None)
                self._mesh.attendance.forget(listed[each.id])
                log.info("node %d (%s) was added from the pool", node, each.host.label)

    def _run(self) -> None:
        try:
            self.look()
        except Exception:
            if self._mesh.event_loop.is_open:  # otherwise the network was closed in the meantime
                log.exception("a search for new servers of the pool failed; another one will follow")
        finally:
            self._due = self._clock() + self._interval

    def _end(self) -> None:
        """Wait for a search to end, because the network was closed."""
        self._due = math.inf
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(_END_SECONDS)

    # --- which servers to try ---

    def _forget_unlisted(self, listed: Mapping[str, object]) -> None:
        """Forget failed servers that are no longer listed: over time their number is unlimited."""
        for id_ in self._failures.keys() - listed.keys():
            self._mesh.attendance.missing.pop(self._failures.pop(id_).label, None)

    def _choose(self, listed: Mapping[str, Sequence[Host]]) -> dict[str, Sequence[Host]]:
        """Return the servers to try now, with their addresses; each time another address comes first."""
        now, failures = self._clock(), self._failures
        counts = {id_: failures[id_].count if id_ in failures else 0 for id_ in listed}
        due = [id_ for id_ in listed if id_ not in failures or failures[id_].next_at <= now]
        chosen = sorted(due, key=counts.__getitem__)[:_TOGETHER]
        return {id_: _rotated(listed[id_], counts[id_]) for id_ in chosen}

    def _note_failure(self, id_: str, host: Host, error: Exception, *, is_costly: bool = False) -> None:
        before = self._failures.get(id_)
        first = _COSTLY_PAUSE if is_costly else self._interval
        longest = _LONGEST_COSTLY_PAUSE if is_costly else _LONGEST_PAUSE
        pause = min(longest, max(first, 2 * before.pause if before else 0.0))
        count = before.count + 1 if before else 1
        self._failures[id_] = _Failure(host.label, count, pause, self._clock() + pause)
        self._mesh.attendance.missing[host.label] = error
        log.warning("cannot add a server of the pool: %s: %s", host.label, error)

    # --- adding the servers reached ---

    def _take_in(self, found: Mapping[int, Reached]) -> dict[int, Exception]:
        """Make servers members; return the errors of those where that failed. Some may not be tried."""
        mesh, self._changing = self._mesh, threading.current_thread()
        try:
            with changing(mesh, "servers of the pool are being added") as mesh_setup:
                ready: dict[int, Reached] = {}
                for node, each in found.items():
                    # Its number is in its certificate, and may have been used in the meantime.
                    if node == len(mesh.connections) + len(ready) and each.id not in mesh.growth.ids:
                        ready[node] = each
                return take_in(
                    mesh,
                    mesh_setup,
                    [each.server for each in ready.values()],
                    {node: each.host for node, each in ready.items()},
                    self._make,
                    deadline_after(_TAKE_SECONDS),
                    is_partial=True,
                )
        except ConfigurationError:  # the user is changing or restarting nodes at the moment
            return {}
        finally:
            with mesh.event_loop.sigint_deferred:
                self._changing = None
                mesh.event_loop.turns.note_news()

    def _has(self, node: int, reached: Reached) -> bool:
        return self._mesh.servers.get(node) is reached.server


def _rotated(hosts: Sequence[Host], count: int) -> list[Host]:
    """Return addresses in rotated order: an address that does not answer may use up all the time."""
    first = count % len(hosts)
    return [*hosts[first:], *hosts[:first]]

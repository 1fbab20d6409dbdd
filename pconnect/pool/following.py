"""A network that follows its pool: `pconnect(elastic=True)` adds servers that come while jobs wait for a slot.

A thread does that, which lives for one look. The thread of the jobs starts it while there are more jobs than slots,
however you wait for them: so no result is late because a server is slow to connect. The thread uses the network as one
of yours would that calls `net.add`; calls of yours that change nodes wait until it has taken in what it has found.

What servers say of others may be false or old, so a look costs little, whatever they say: it ends after some seconds,
it tries a few servers side by side, and one that failed has to wait longer each time. A server that cannot be logged in
at takes no number, and nobody hears of it. The network gets one engine of each server: see `pconnect.pool.reaching`.
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

DEFAULT_INTERVAL = 5.0  # seconds from one look to the next
_ASK_SECONDS = 2.0  # for the answers of the servers
_REACH_SECONDS = 10.0  # for the logins
_TAKE_SECONDS = 30.0  # to connect the engines, and to send them what `net.broadcast` has sent to others
_TOGETHER = 16  # servers in one look: each login costs this process some hundredths of a second
_LONGEST_PAUSE = 300.0  # before a server that could not be reached is tried again
# One that let us in and did not become a member has used up a number, and has ended collective calls.
_COSTLY_PAUSE = 600.0
_LONGEST_COSTLY_PAUSE = 7200.0
_END_SECONDS = 5.0  # for a look that is under way, once the network is closed


def interval_of(elastic: bool | float) -> float:
    """Return every how many seconds a network asks for other servers; 0: never.

    Raises `ConfigurationError` if the option of `pconnect` makes no sense.
    """
    if isinstance(elastic, bool):
        return DEFAULT_INTERVAL if elastic else 0.0
    if not isinstance(elastic, int | float) or not 0.0 < elastic < float("inf"):
        raise ConfigurationError(f"elastic={elastic!r}: it must be True, False, or seconds")
    return float(elastic)


@dataclass
class _Failure:
    """What is known of a server that could not be added."""

    label: str  #: as it is called in ``net.missing``
    count: int
    pause: float  #: the last one
    next_at: float  #: not to be tried before this instant


class Following:
    """What looks after new servers for one network.

    `interval`: as of `interval_of`. `make`: as of `pconnect.growth.adding.add_nodes`. `clock`: as `time.monotonic`.
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
        self._failures: dict[str, _Failure] = {}  # by id; of those that are listed, no others
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None  # the one that looks
        self._changing: threading.Thread | None = None  # the one that takes in nodes, if there are some
        mesh.after_close.append(self._end)

    def begin(self) -> None:
        """Have a thread look for new servers, if it is time; any thread may call this, and it does not wait."""
        with self._lock:
            if self._clock() < self._due:
                return
            self._due = math.inf  # until this look is over
            self._thread = threading.Thread(target=self._run, name="pconnect pool", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # there are too many, or the program ends
            self._thread, self._due = None, self._clock() + self._interval
            log.warning("servers of the pool were not looked for: %s", error)

    def wait(self) -> None:
        """Wait until no nodes are being taken in; for others that want to change nodes."""
        if self._changing not in {None, threading.current_thread()}:
            with contextlib.suppress(TimeoutError):
                self._mesh.event_loop.run_until(
                    lambda: self._changing is None, deadline_after(2 * _TAKE_SECONDS), "servers of the pool"
                )

    def look(self) -> None:
        """Add the servers that are new."""
        listed = further_hosts(self._mesh, _ASK_SECONDS)
        self._forget_others(listed)
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
                log.info("node %d (%s) has come from the pool", node, each.host.label)

    def _run(self) -> None:
        try:
            self.look()
        except Exception:
            if self._mesh.event_loop.is_open:  # else the network was closed meanwhile
                log.exception("a look for new servers of the pool has failed; there will be others")
        finally:
            self._due = self._clock() + self._interval

    def _end(self) -> None:
        """Wait for the end of a look: the network was closed."""
        self._due = math.inf
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(_END_SECONDS)

    # --- which are tried ---

    def _forget_others(self, listed: Mapping[str, object]) -> None:
        """Forget those that failed and are not listed any more: there may be any number of them in time."""
        for id_ in self._failures.keys() - listed.keys():
            self._mesh.attendance.missing.pop(self._failures.pop(id_).label, None)

    def _choose(self, listed: Mapping[str, Sequence[Host]]) -> dict[str, Sequence[Host]]:
        """Return the servers to be tried now, with their addresses; another one comes first each time."""
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
        log.warning("a server of the pool cannot be added: %s: %s", host.label, error)

    # --- what was reached ---

    def _take_in(self, found: Mapping[int, Reached]) -> dict[int, Exception]:
        """Make what was reached members; return why some could not become that. Others were not tried."""
        mesh, self._changing = self._mesh, threading.current_thread()
        try:
            with changing(mesh, "servers of the pool are being added") as mesh_setup:
                ready: dict[int, Reached] = {}
                for node, each in found.items():
                    # Its number is in its certificate, and may have been taken meanwhile.
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
        except ConfigurationError:  # you change or restart nodes just now
            return {}
        finally:
            with mesh.event_loop.sigint_deferred:
                self._changing = None
                mesh.event_loop.turns.note_news()

    def _has(self, node: int, reached: Reached) -> bool:
        return self._mesh.servers.get(node) is reached.server


def _rotated(hosts: Sequence[Host], count: int) -> list[Host]:
    """Return addresses from another one on each time: one that does not answer takes all the time there is."""
    first = count % len(hosts)
    return [*hosts[first:], *hosts[:first]]

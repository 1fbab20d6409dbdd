"""Adaptive Dask workers: their number follows the work, on the nodes that the network has at the time.

Once a second, a thread asks the scheduler how many workers it wants (Dask's own estimate, as for any adaptive cluster)
and looks which nodes exist. It then starts workers on the nodes with the fewest, or lets idle workers move their data
to others and exit. A node added to the network with ``net.add`` therefore gets workers when there is work for them. If
more workers are wanted than fit on the nodes, a network that follows its pool looks for further servers, as it does for
jobs. A node that is removed or lost is left alone: Dask recomputes the results lost with its workers.

Each worker is a separate cluster with its own key, so it is started and ended independently. An engine that is busy
with a command cannot start a worker and is skipped. After a failed start, the node is tried again half a minute later.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pconnect.dask.cluster import DaskCluster, Plan, hosts_of
from pconnect.errors import ConfigurationError, ParallelError
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.server import Server
from srp_tools.certificates import NetworkAuthority

log = logging.getLogger("pconnect")

_LOOK_SECONDS = 1.0
_IDLE_LOOKS = 3  # a worker must be idle this many times in a row, as in Dask's own adaptive clusters
_PAUSE_SECONDS = 30.0  # on a node where a worker could not be started
_JOIN_SECONDS = 5.0  # for the thread, when the cluster ends


@dataclass(frozen=True)
class Bounds:
    """Limits on the number of workers."""

    minimum: int
    maximum: int | None  #: ``None``: as many as fit
    each: int  #: maximum per node

    def __post_init__(self) -> None:
        if not isinstance(self.minimum, int) or self.minimum < 0:
            raise ConfigurationError(
                f"minimum={self.minimum!r} is not allowed: give a whole number, 0 or greater"
            )
        if self.maximum is not None and (
            not isinstance(self.maximum, int) or self.maximum < max(1, self.minimum)
        ):
            raise ConfigurationError(
                f"maximum={self.maximum!r} is not allowed: give at least 1, and at least minimum={self.minimum}"
            )

    def within(self, wanted: int) -> int:
        """Return the number of workers within the limits that is closest to `wanted`."""
        most = wanted if self.maximum is None else min(wanted, self.maximum)
        return max(self.minimum, most)


class Steering(Protocol):
    """The methods of Dask's client used here."""

    def wishes(self) -> tuple[int, set[str], list[str]]:
        """Return the number of workers the scheduler wants, the names of all workers, and the names of idle ones."""

    def retire(self, names: Collection[str]) -> None:
        """Let workers move their data to others and exit."""


@dataclass
class _Worker:
    """A worker that has started and registered with the scheduler."""

    cluster: DaskCluster
    node: int
    spare_looks: int = 0  # how many times in a row it was idle


class AdaptiveWorkers:
    """The workers of an adaptive cluster.

    `nodes`: returns the numbers of the nodes that may have workers. `scheduler`: the node of the scheduler. `plan`: for
    each worker, without names. `follow`: called when more workers are wanted than the nodes have room for.
    """

    def __init__(
        self,
        mesh: ClientMesh,
        authority: NetworkAuthority,
        plan: Plan,
        bounds: Bounds,
        *,
        nodes: Callable[[], Sequence[int]],
        scheduler: int,
        follow: Callable[[], None],
    ) -> None:
        self._mesh = mesh
        self._authority = authority
        self._plan = plan
        self._bounds = bounds
        self._nodes = nodes
        self._scheduler = scheduler
        self._follow = follow
        self._address = ""
        self._steering: Steering | None = None
        self._workers: dict[str, _Worker] = {}
        self._numbers: dict[int, int] = {}  # of the next worker, by node
        self._resting: dict[int, float] = {}  # by node, the instant before which no worker is started
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workers of Dask", daemon=True)

    def begin(self, address: str, steering: Steering) -> None:
        """Start the minimum number of workers, and adapt their number from now on. `address`: of the scheduler.

        Raises the errors of `DaskCluster.start` if one of them cannot be started.
        """
        self._address, self._steering = address, steering
        for error in self._start_some(self._bounds.minimum):
            raise error
        self._thread.start()

    def rest(self) -> None:
        """Stop adapting, because the scheduler is about to end."""
        self._ending.set()

    def end(self) -> None:
        """Stop adapting, and end the remaining processes after the scheduler has ended."""
        self.rest()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_SECONDS)
        for name in list(self._workers):
            self._forget(name)

    def _run(self) -> None:
        while not self._ending.wait(_LOOK_SECONDS) and not self._mesh.closed:
            try:
                self.look()
            except (ParallelError, OSError, TimeoutError) as error:
                if not self._ending.is_set() and not self._mesh.closed:
                    log.info("Dask workers were not adapted this time: %s", error)
            except Exception:
                if not self._ending.is_set():
                    log.exception("Dask workers were not adapted this time")

    def look(self) -> None:
        """Compare the workers with the scheduler's wishes once, and start or retire some."""
        assert self._steering is not None  # noqa: S101 - set by `begin`
        wanted, there, spare = self._steering.wishes()
        self._forget_lost(there)
        wanted = self._bounds.within(wanted)
        if wanted > len(self._workers):
            for error in self._start_some(wanted - len(self._workers)):
                log.warning("a Dask worker could not be started: %s", error)
            if wanted > len(self._workers):
                self._follow()
        self._retire(spare, len(self._workers) - wanted)

    # --- starting workers ---

    def _start_some(self, count: int) -> list[Exception]:
        """Start up to `count` workers, as many as fit; return the errors of those that failed."""
        places = self._places(count)
        scheduler = self._mesh.servers.get(self._scheduler)
        begun: list[tuple[str, int, DaskCluster]] = []
        errors: list[Exception] = []
        for node in places:
            number = self._numbers[node] = self._numbers.get(node, -1) + 1
            name = f"node{node}-{number}"
            server = self._mesh.servers[node]
            hosts = hosts_of(list({each.node: each for each in (scheduler, server) if each}.values()))
            cluster = DaskCluster(self._mesh, self._authority, self._plan.only(node, name))
            with self._catching(cluster, node, errors):
                cluster.launch({node: hosts[node]})
                begun.append((name, node, cluster))
        for name, node, cluster in begun:
            with self._catching(cluster, node, errors):
                cluster.join(self._address, [name])
                self._workers[name] = _Worker(cluster, node)
                if self._ending.is_set():  # `end` was called in the meantime and did not see this worker
                    self._forget(name)
        return errors

    @contextlib.contextmanager
    def _catching(self, cluster: DaskCluster, node: int, errors: list[Exception]) -> Any:
        try:
            yield
        except (ParallelError, OSError, TimeoutError) as error:
            errors.append(error)
            self._resting[node] = time.monotonic() + _PAUSE_SECONDS
            self._stop(cluster)
        except BaseException:
            self._stop(cluster)
            raise

    def _places(self, count: int) -> list[int]:
        """Return the nodes for `count` more workers, each time the one with the fewest."""
        now = time.monotonic()
        able = [
            node
            for node in self._nodes()
            if self._can_start(self._mesh.servers.get(node)) and self._resting.get(node, 0.0) <= now
        ]
        counts = {node: sum(worker.node == node for worker in self._workers.values()) for node in able}
        places: list[int] = []
        for _ in range(count):
            node = min(counts, key=counts.__getitem__, default=None)
            if node is None or counts[node] >= self._bounds.each:
                break
            counts[node] += 1
            places.append(node)
        return places

    @staticmethod
    def _can_start(server: Server | None) -> bool:
        return server is not None and server.state == "open" and not server.running

    # --- ending workers ---

    def _forget_lost(self, there: set[str]) -> None:
        """Forget workers that have ended, perhaps together with their nodes."""
        for name in self._workers.keys() - there:
            self._forget(name)

    def _retire(self, spare: Sequence[str], most: int) -> None:
        """Retire up to `most` workers that have been idle long enough."""
        assert self._steering is not None  # noqa: S101 - set by `begin`
        for name, worker in self._workers.items():
            worker.spare_looks = worker.spare_looks + 1 if name in spare else 0
        ripe = [name for name, worker in self._workers.items() if worker.spare_looks >= _IDLE_LOOKS]
        if ending := ripe[: max(0, most)]:
            self._steering.retire(ending)
            for name in ending:
                self._forget(name)

    def _forget(self, name: str) -> None:
        worker = self._workers.pop(name)
        self._stop(worker.cluster)

    def _stop(self, cluster: DaskCluster) -> None:
        with contextlib.suppress(
            ParallelError, OSError, TimeoutError
        ):  # the node is gone, and its processes with it
            cluster.stop()

    @property
    def counts(self) -> Mapping[int, int]:
        """The number of workers on each node."""
        nodes = [worker.node for worker in list(self._workers.values())]
        return {node: nodes.count(node) for node in sorted(set(nodes))}

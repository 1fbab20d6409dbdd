"""Decides how many workers each node should have, and which workers are given back."""

import time
from collections.abc import Callable, Collection, Iterable

from pconnect.jobs.job import Job
from pconnect.scheduler.job_queue import JobQueue
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.scheduler.placement import Placement
from pconnect.scheduler.remote_worker import RemoteWorker

_IDLE_SECONDS = 60.0  # idle workers are given back after this time


class WorkerDemand:
    """The worker demand of one network. `retire`: makes a worker finish and exit. `placement`: which nodes get jobs."""

    def __init__(
        self,
        nodes: dict[int, NodeWorkers],
        retire: Callable[[RemoteWorker], None],
        placement: Placement | None = None,
    ) -> None:
        self.placement = placement or Placement()  #: the placement rules
        self._nodes = nodes
        self._retire = retire

    def ready(self, numbers: Collection[int] | None = None) -> list[NodeWorkers]:
        """Return those of the given nodes, or of all nodes, that can run jobs."""
        nodes = self._nodes
        some = nodes.values() if not numbers else [nodes[number] for number in numbers if number in nodes]
        return self.placement.accepted(node for node in some if node.is_ready and node.slots)

    def hold(self, numbers: Iterable[int], change: int) -> None:
        """Reserve the servers of some nodes for this network (1), or release them (-1)."""
        for number in numbers:
            if number in self._nodes:  # not removed in the meantime
                self._nodes[number].hold(change)

    def ask(self, waiting: JobQueue, allowed: Callable[[Job], Collection[int]], now: float) -> None:
        """Request workers from the servers for the queued jobs, as far as there are slots."""
        if waiting:
            spare = {node.number: node.spare for node in self._nodes.values()}
            for jobs in waiting.constrained_in_order():
                nodes = [self._nodes[number] for number in allowed(jobs[0])]
                self._want_more(len(jobs), nodes, spare, now)
                self._ensure_worker(nodes, now)
            self._want_more(len(waiting.common), self.ready(), spare, now)
        for node in self._nodes.values():
            node.ask(now)

    def _want_more(self, shortage: int, nodes: list[NodeWorkers], spare: dict[int, int], now: float) -> None:
        """Request a worker for each of `shortage` jobs, on nodes where they may run.

        `spare`: workers of each node that are available for these jobs. If a server is late, because it is full or its
        engine is busy, its expected workers count only after all slots of the other servers are requested: the job goes
        to the first free slot.
        """
        for is_late in (False, True):
            asked = [node for node in nodes if node.is_late(now) is is_late]
            for node in asked:
                used = min(shortage, spare[node.number])
                spare[node.number] -= used
                shortage -= used
            while shortage > 0 and (able := [node for node in asked if node.can_have_more(now)]):
                min(able, key=self.placement.rank).want_more()
                shortage -= 1

    def _ensure_worker(self, nodes: list[NodeWorkers], now: float) -> None:
        """Make sure that one of these nodes, all ready, gets a worker for a job that may not run elsewhere.

        If its server has no slot left because workers of other nodes of this network use them, one of those retires.
        The server cannot decide this: from its point of view the network has its share.
        """
        if not nodes or any(node.living for node in nodes):
            for node in nodes:
                node.is_served()
            return
        if not any(node.wanted for node in nodes):
            nodes[0].want_more()
        for node in nodes:
            self._make_room(node, node.is_short(now))

    def _make_room(self, node: NodeWorkers, is_short: bool) -> None:
        others = [w for n in self._nodes.values() if n.place == node.place for w in n.workers.values()]
        is_full = len(others) >= (node.slots or 0) or is_short
        if not is_full or any(worker.retiring for worker in others):
            return
        # A worker that has not run anything yet gets its turn first.
        able = [worker for worker in others if worker.is_open and (worker.served or not worker.jobs)]
        if able:
            self._give_back(min(able, key=lambda worker: len(worker.jobs)))

    def _give_back(self, worker: RemoteWorker) -> None:
        self._nodes[worker.node].want_fewer()
        self._retire(worker)

    def give_back_idle(self, waiting: JobQueue) -> None:
        """Give back workers that have been idle for a while, and cancel requests that no job needs."""
        now = time.monotonic()
        for node in self._nodes.values():
            if not waiting and node.is_late(now):
                node.want_no_more()
            for worker in node.workers.values():
                seconds = worker.idle_seconds(now, is_held=node.is_held)
                if seconds > _IDLE_SECONDS and not waiting and not worker.retiring:
                    self._give_back(worker)

"""The scheduler: the thread that gives the jobs of one network to workers.

It has connections of its own: one to the supervisor of each node, which tells of slots and workers, and one to each
worker, on which jobs and results pass. So it never touches what the thread of the network uses, and jobs go on while
that computes, or sleeps. All of its state belongs to it; others leave calls for it in a queue. A job that is the only
one is sent, and its answer received, by the thread that submits it and waits for it, while this one sleeps; see
`pconnect.scheduler.loop_thread`.
"""

import itertools
import operator
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from pconnect.errors import ConfigurationError, ConnectionLostError, JobLostError
from pconnect.jobs.function_cache import Functions
from pconnect.jobs.job import Job
from pconnect.jobs.live_output import LiveOutput
from pconnect.jobs.shared_arrays import Contents
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pconnect.scheduler.healing import Healer
from pconnect.scheduler.job_queue import JobQueue
from pconnect.scheduler.loop_thread import LOOK_SECONDS, LoopThread
from pconnect.scheduler.node_changes import NodeChanges
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.scheduler.prefetch import assign
from pconnect.scheduler.queue_reasons import describe_silent, describe_unable, why_queued
from pconnect.scheduler.worker_demand import WorkerDemand
from pconnect.scheduler.worker_manager import WorkerManager
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import kept_value
from pconnect.session.server import Server

_begin = operator.methodcaller("begin")
_NO_NODE_SECONDS = 0.7  # so long a queue waits for a node when there is none


class Extension(Protocol):
    """What the scheduler calls in its thread, beside its own work: for jobs that leave the client, or come back.

    `pauses`: whether no jobs are given out meanwhile.
    """

    @property
    def pauses(self) -> bool: ...  # noqa: D102 - see above

    def begin(
        self,
        nodes: dict[int, NodeWorkers],
        event_loop: EventLoop,
        open_jobs: set[Job],
        allowed: Callable[[Job], set[int]],
    ) -> None:
        """Take over what is needed: the nodes by number, the loop, the jobs that have not ended, and where one may run.

        This is called once, before the first step, in the thread that asks for it.
        """

    def step(self) -> None:
        """Do what there is to do; called whenever something has happened, and several times in a second."""

    def end(self, reason: str) -> None:
        """Do what comes last: the loop ends."""


class Scheduler:
    """The jobs of one network.

    `mesh`: the network; its servers' nodes run the jobs.

    `functions`: those that jobs call. `contents`: those of large arrays that jobs share.
    """

    def __init__(self, mesh: ClientMesh) -> None:
        mesh_setup = mesh.mesh_setup
        if mesh_setup is None:
            raise ConfigurationError("jobs need a network made by pconnect")
        self.functions = Functions()
        self.contents = Contents()
        self._numbers = itertools.count(1)
        self._submitted: deque[Job] = deque()
        self._waiting = JobQueue()
        self._open: set[Job] = set()  # those that have not ended
        self._stopping: dict[Job, float] = {}  # to be interrupted, with the seconds that each may take
        self._live_output = LiveOutput(mesh.console)
        self._thread = LoopThread("pconnect jobs", self)
        self._manager = WorkerManager(mesh.servers.values(), mesh_setup, self._thread.event_loop, self)
        self._demand = WorkerDemand(self._manager.nodes, self._manager.retire, mesh.jobs.placement)
        self._healer = Healer(mesh, self._manager.nodes, self._thread.event_loop, self._manager.attend, self)
        self.changes = NodeChanges(self._thread, self._manager, self._healer)  #: of nodes, by other threads
        self._manager.on_lost = self._healer.note_loss
        self._manager.on_statistics = self._demand.placement.take
        self._manager.on_change = self._demand.placement.forget
        self._looked_at = 0.0
        self._extensions: list[Extension] = []
        self._thread.start()

    # --- for other threads ---

    def next_number(self) -> int:
        """Return the number of the next job."""
        return next(self._numbers)

    def count_slots(self, nodes: Collection[int], timeout: float) -> int:
        """Return how many slots the servers of some nodes have; two nodes of one server have the same.

        Raises `TimeoutError` if not all have said it in time.
        """
        if not self._manager.heard.wait(timeout):
            silent = describe_silent(self.nodes(), nodes)
            raise TimeoutError(f"{silent}: no word of how many slots there are, after {timeout:g} s")
        return self._manager.count_slots(nodes)

    def nodes(self) -> list[NodeWorkers]:
        """Return the nodes, also those that are lost; only to look at, as others change them meanwhile."""
        return list(self._manager.nodes.values())

    def submit(self, job: Job) -> None:
        """Put a job into the queue."""
        self._open.add(job)
        self._submitted.append(job)
        if self._thread.closed:
            self._fail_all(self._thread.closed)
        # One of many is sent together with others.
        if len(self._open) > 1 or self._extensions or not self._thread.step_here():
            self._thread.wake()

    def attend(self, job: Job, deadline: float) -> None:
        """Take in here what comes of a job that was sent, if it is the only one; return early in any other case."""
        if len(self._open) == 1 and not self._extensions:
            self._thread.read_here(
                lambda: self._manager.connection_of(job), lambda: job.done() or job.calls_back, deadline
            )

    def call_back(self, function: Callable[[], object]) -> None:
        """Call a function of the user that waits for something of a job."""
        self._thread.call_back(function)

    def fetch(self, job: Job, error: Exception, timeout: float | None) -> Any:
        """Return the result that the node of a job keeps because only pickle can send it."""
        node = self._manager.nodes.get(job.node or 0)
        if node is None:  # it was removed
            raise error
        return kept_value(node.server.data, "job", job.number, error, timeout)

    def why(self, job: Job) -> str:
        """Return why a job is with no worker; empty if one has it."""
        if self._thread.closed or self._manager.connection_of(job) is not None:
            return self._thread.closed
        nodes = [
            node for node in self._manager.nodes.values() if node.number in (job.options.on or {node.number})
        ]
        return why_queued(nodes, self._manager.workers(), time.monotonic(), self._demand.placement.why)

    def show(self, job: Job, stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        """Show a part of what a job has printed."""
        self._live_output.add(job, stream, start, data, is_last=is_last)

    def drop(self, job: Job) -> None:
        """Forget a job that was cancelled before it was sent."""
        self._open.discard(job)
        job.begin()
        self._waiting.has_cancelled = True

    def stop(self, job: Job, grace: float) -> None:
        """Interrupt a job that was sent, and kill its worker if that does not help."""
        self.call(lambda: self._begin_stop(job, grace))

    def tell(self, job: Job, kind: Kind, value: object) -> None:
        """Send something to a job that runs; forget it if no worker has the job."""
        self.call(lambda: self._manager.tell(job, kind, value))

    def set_exclusive(self, nodes: Iterable[int], change: int) -> None:
        """Have the servers of some nodes for this network alone (1), with all their slots, or no longer (-1)."""
        self.call(lambda: self._demand.hold(nodes, change))

    def add_nodes(self, servers: Collection[Server]) -> None:
        """Have jobs run at further nodes, too."""
        self._manager.heard.clear()
        self.call(lambda: self._manager.add(servers))

    def extend(self, extension: Extension) -> None:
        """Have an extension called in the loop."""
        extension.begin(self._manager.nodes, self._thread.event_loop, self._open, self._allowed)
        self.call(lambda: self._extensions.append(extension))

    def call(self, function: Callable[[], object]) -> None:
        """Have something done by the thread of the jobs."""
        self._thread.call(function)

    def close(self, reason: str) -> None:
        """End the thread; jobs that have not ended are lost."""
        self._thread.close(reason)

    def abandon(self, error: ConnectionLostError) -> None:
        """Leave all to the process that this one was forked from, which has the thread; here, the jobs have ended."""
        self._thread.abandon(error)
        self._manager.heard.set()
        for job in list(self._open):
            job.abandon(JobLostError(f"{job.name} has no result here: {error}"))

    # --- for the thread, whose `pconnect.scheduler.loop_thread.Owner` this is ---

    def begin(self) -> None:
        """Connect to all nodes."""
        self._manager.begin()

    def has_work(self) -> bool:
        """Whether jobs were submitted."""
        return bool(self._submitted)

    def step(self) -> None:
        """Give out jobs, and ask for workers."""
        while self._submitted:
            self._waiting.add(self._submitted.popleft())
        self._manager.note_heard()
        now = time.monotonic()
        if now - self._looked_at > LOOK_SECONDS:
            self._looked_at = now
            self._look(now)
        for extension in self._extensions:
            extension.step()
        if not any(extension.pauses for extension in self._extensions):
            self._give_out()
            self._demand.ask(self._waiting, self._allowed, now)
        self._manager.flush()

    def end(self, reason: str) -> None:
        """Let all jobs fail."""
        self._manager.heard.set()
        self._healer.close()
        self._fail_all(reason)

    def _fail_all(self, reason: str) -> None:
        for extension in self._extensions:
            extension.end(reason)
        jobs = list(self._open)
        self._open.clear()
        self._waiting.clear()
        self._submitted.clear()
        for job in jobs:
            if not job.done() and job.begin():
                job.fail(JobLostError(f"{job.name} has no result: {reason}"))

    # --- giving out jobs ---

    def _give_out(self) -> None:
        if not self._waiting:
            return
        placement = self._demand.placement
        workers = placement.workers(self._manager.workers())
        for assignment in assign(
            self._waiting, workers, self._allowed, _begin, is_ordered=placement.is_ordered
        ):
            if assignment.retires:
                self._manager.retire(assignment.worker)
            if assignment.jobs:
                self._manager.send(assignment.worker, assignment.jobs)

    def _allowed(self, job: Job) -> set[int]:
        """Return the nodes where a job may run: not where it was lost, as long as there are others."""
        ready = {node.number for node in self._demand.ready(job.options.on)}
        return ready - job.avoid or ready

    def _look(self, now: float) -> None:
        """Do what only time makes necessary."""
        is_full = len(self._open) > self._manager.count_slots(self._manager.nodes)
        self._healer.look(now, is_wanted=bool(self._open), is_full=is_full)
        self._look_at_servers(now)
        self._demand.give_back_idle(self._waiting)
        for job, grace in list(self._stopping.items()):
            self._send_stop(job, grace)
        self._waiting.forget_cancelled()
        self._fail_what_cannot_run(now)

    def _look_at_servers(self, now: float) -> None:
        """Find out which servers are accepted, if that is wanted; fail what waits if it cannot be found out."""
        placement = self._demand.placement
        if placement.has_rule and self._open:
            placement.look(self._manager.nodes.values(), now)
            while (error := placement.error()) is not None and self._waiting:
                self._fail_waiting(next(iter(self._waiting)), error)

    def _fail_waiting(self, job: Job, error: Exception) -> None:
        self._waiting.discard(job)
        if job.begin():
            self.ended(job)
            job.fail(error)

    def _fail_what_cannot_run(self, now: float) -> None:
        """Fail the jobs for which there is no node any more, or none that ever had slots."""
        able = {node.number for node in self._manager.nodes.values() if node.may_run_jobs}
        constrained = self._waiting.constrained_in_order()
        queues = [jobs for jobs in constrained if jobs[0].options.on and not jobs[0].options.on & able]
        stuck = [job for jobs in queues for job in jobs] if able else list(self._waiting)
        stuck = [job for job in stuck if not self._healer.hopes(job.options.on, job.after, now)]
        if not stuck:
            self._waiting.stuck_since = None
            return
        if self._waiting.stuck_since is None:
            self._waiting.stuck_since = now
        if now - self._waiting.stuck_since < _NO_NODE_SECONDS:
            return
        reasons = describe_unable(self.nodes(), able) or "the nodes for which it was are not there any more"
        for job in stuck:
            self._fail_waiting(job, JobLostError(f"{job.name} cannot be run anywhere: {reasons}"))

    # --- what becomes of jobs ---

    def ended(self, job: Job) -> None:
        """Record that a job has a result."""
        self._open.discard(job)
        self._stopping.pop(job, None)

    def requeue(self, job: Job) -> None:
        """Put a job back that was sent and not begun."""
        job.begin_again()
        if job.cancel_asked:
            self._end_cancelled(job)
        else:
            self._waiting.put_back(job)

    def lose(self, job: Job, why: str, *, away: bool = False) -> None:
        """Run a job again, or say that it is lost. `away`: because the client, which resumes, was away."""
        self._stopping.pop(job, None)
        for stream in (1, 2):
            self.show(job, stream, 0, b"", is_last=True)
        if away and job.options.retries is None and not job.cancel_asked:
            self.requeue(job)
            return
        job.losses += 1
        if job.losses <= (job.options.retries or 0) and not job.cancel_asked:
            job.avoid |= {job.node or 0}
            self.requeue(job)
        else:
            again = f" (the last of {job.losses} times)" if job.losses > 1 else ""
            self.ended(job)
            job.fail(JobLostError(f"{job.name} is lost{again}: {why}"))

    def _begin_stop(self, job: Job, grace: float) -> None:
        if job.done():
            return
        if self._waiting.discard(job):  # it waits again, because its worker is gone
            self._end_cancelled(job)
            return
        self._stopping[job] = grace
        self._send_stop(job, grace)

    def _end_cancelled(self, job: Job) -> None:
        self.ended(job)
        job.fail(KeyboardInterrupt())

    def _send_stop(self, job: Job, grace: float) -> None:
        if job.done() or not self._manager.stop(job, grace):
            self._stopping.pop(job, None)

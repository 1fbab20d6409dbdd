"""The scheduler: the thread that gives the jobs of one network to workers.

It has its own connections: one to the supervisor of each node, which reports slots and workers, and one to each worker,
which carries jobs and results. Because it never touches the connections of the network's thread, jobs continue while
that thread computes or sleeps. All of the scheduler's state belongs to its thread; other threads leave calls in a
queue. A single job is sent, and its result received, by the thread that submits it and waits for it, while the
scheduler's thread sleeps; see `pconnect.scheduler.loop_thread`.
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
_NO_NODE_SECONDS = 0.7  # a queue without any node waits this long before its jobs fail


class Extension(Protocol):
    """Additional work in the scheduler's thread: for jobs that leave the client, or return to it.

    `pauses`: whether no jobs are given to workers for now.
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
        """Take over the nodes by number, the loop, the jobs that have not ended, and a function for where one may run.

        This is called once, before the first step, in the thread that calls `Scheduler.extend`.
        """

    def step(self) -> None:
        """Do pending work; called after each event, and several times a second."""

    def end(self, reason: str) -> None:
        """Finish; called when the loop ends."""


class Scheduler:
    """Runs the jobs of one network.

    `mesh`: the network; the jobs run on the nodes of its servers.

    `functions`: the functions that jobs call. `contents`: the contents of large arrays that jobs share.
    """

    def __init__(self, mesh: ClientMesh) -> None:
        mesh_setup = mesh.mesh_setup
        if mesh_setup is None:
            raise ConfigurationError(
                "this network cannot run jobs: it was not made by pconnect or local_network"
            )
        self.functions = Functions()
        self.contents = Contents()
        self._numbers = itertools.count(1)
        self._submitted: deque[Job] = deque()
        self._waiting = JobQueue()
        self._open: set[Job] = set()  # jobs that have not ended
        self._stopping: dict[Job, float] = {}  # jobs to interrupt, with their grace in seconds
        self._live_output = LiveOutput(mesh.console)
        self._thread = LoopThread("pconnect jobs", self)
        self._manager = WorkerManager(mesh.servers.values(), mesh_setup, self._thread.event_loop, self)
        self._demand = WorkerDemand(self._manager.nodes, self._manager.retire, mesh.jobs.placement)
        self._healer = Healer(mesh, self._manager.nodes, self._thread.event_loop, self._manager.attend, self)
        self.changes = NodeChanges(
            self._thread, self._manager, self._healer
        )  #: for requests of other threads
        self._manager.on_lost = self._healer.note_loss
        self._manager.on_statistics = self._demand.placement.take
        self._manager.on_change = self._demand.placement.forget
        self._checked_at = 0.0
        self._extensions: list[Extension] = []
        self._thread.start()

    # --- for other threads ---

    def next_number(self) -> int:
        """Return a number for a new job."""
        return next(self._numbers)

    def count_slots(self, nodes: Collection[int], timeout: float) -> int:
        """Return the total number of slots of the servers of some nodes; a server of two nodes counts once.

        Raises `TimeoutError` if a server has not reported its slots in time.
        """
        if not self._manager.heard.wait(timeout):
            silent = describe_silent(self.nodes(), nodes)
            raise TimeoutError(f"timed out after {timeout:g} s waiting for the number of slots of {silent}")
        return self._manager.count_slots(nodes)

    def nodes(self) -> list[NodeWorkers]:
        """Return the nodes, including lost ones; for reading only, because the scheduler changes them."""
        return list(self._manager.nodes.values())

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._open.add(job)
        self._submitted.append(job)
        if self._thread.closed:
            self._fail_all(self._thread.closed)
        # With several open jobs, the thread sends small ones together.
        if len(self._open) > 1 or self._extensions or not self._thread.step_here():
            self._thread.wake()

    def attend(self, job: Job, deadline: float) -> None:
        """Receive the result of a job in this thread if it is the only open job; otherwise return early."""
        if len(self._open) == 1 and not self._extensions:
            self._thread.read_here(
                lambda: self._manager.connection_of(job), lambda: job.done() or job.calls_back, deadline
            )

    def call_back(self, function: Callable[[], object]) -> None:
        """Call a user's function that waits for an event of a job."""
        self._thread.call_back(function)

    def fetch(self, job: Job, error: Exception, timeout: float | None) -> Any:
        """Fetch the result that a job's node keeps because only pickle can send it."""
        node = self._manager.nodes.get(job.node or 0)
        if node is None:  # the node was removed
            raise error
        return kept_value(node.server.data, "job", job.number, error, timeout)

    def why(self, job: Job) -> str:
        """Return why no worker has a job; empty if one has it."""
        if self._thread.closed or self._manager.connection_of(job) is not None:
            return self._thread.closed
        nodes = [
            node for node in self._manager.nodes.values() if node.number in (job.options.on or {node.number})
        ]
        return why_queued(nodes, self._manager.workers(), time.monotonic(), self._demand.placement.why)

    def show(self, job: Job, stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        """Show a part of a job's output."""
        self._live_output.add(job, stream, start, data, is_last=is_last)

    def drop(self, job: Job) -> None:
        """Forget a job that was cancelled before it was sent."""
        self._open.discard(job)
        job.begin()
        self._waiting.has_cancelled = True

    def stop(self, job: Job, grace: float) -> None:
        """Interrupt a job that was sent, and kill its worker if the job does not end within `grace` seconds."""
        self.call(lambda: self._begin_stop(job, grace))

    def tell(self, job: Job, kind: Kind, value: object) -> None:
        """Send a message to a running job; drop the message if no worker has the job."""
        self.call(lambda: self._manager.tell(job, kind, value))

    def set_exclusive(self, nodes: Iterable[int], change: int) -> None:
        """Reserve the servers of some nodes and all their slots for this network (1), or release them (-1)."""
        self.call(lambda: self._demand.hold(nodes, change))

    def add_nodes(self, servers: Collection[Server]) -> None:
        """Let jobs run on further nodes as well."""
        self._manager.heard.clear()
        self.call(lambda: self._manager.add(servers))

    def extend(self, extension: Extension) -> None:
        """Call an extension in the scheduler's loop from now on."""
        extension.begin(self._manager.nodes, self._thread.event_loop, self._open, self._allowed)
        self.call(lambda: self._extensions.append(extension))

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the scheduler's thread."""
        self._thread.call(function)

    def close(self, reason: str) -> None:
        """End the thread; jobs that have not ended are lost."""
        self._thread.close(reason)

    def abandon(self, error: ConnectionLostError) -> None:
        """End all jobs in a forked process; the scheduler's thread exists only in the original process."""
        self._thread.abandon(error)
        self._manager.heard.set()
        for job in list(self._open):
            job.abandon(JobLostError(f"{job.name} has no result here: {error}"))

    # --- for the thread; these are the methods of `pconnect.scheduler.loop_thread.Owner` ---

    def begin(self) -> None:
        """Connect to all nodes."""
        self._manager.begin()

    def has_work(self) -> bool:
        """Return whether jobs were submitted."""
        return bool(self._submitted)

    def step(self) -> None:
        """Give jobs to workers, and request workers."""
        while self._submitted:
            self._waiting.add(self._submitted.popleft())
        self._manager.note_heard()
        now = time.monotonic()
        if now - self._checked_at > LOOK_SECONDS:
            self._checked_at = now
            self._check_periodically(now)
        for extension in self._extensions:
            extension.step()
        if not any(extension.pauses for extension in self._extensions):
            self._assign_jobs()
            self._demand.ask(self._waiting, self._allowed, now)
        self._manager.flush()

    def end(self, reason: str) -> None:
        """Fail all jobs that have not ended."""
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

    # --- assigning jobs to workers ---

    def _assign_jobs(self) -> None:
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
        """Return the nodes where a job may run, without those where it was lost if others remain."""
        ready = {node.number for node in self._demand.ready(job.options.on)}
        return ready - job.avoid or ready

    def _check_periodically(self, now: float) -> None:
        """Do periodic work."""
        is_full = len(self._open) > self._manager.count_slots(self._manager.nodes)
        self._healer.look(now, is_wanted=bool(self._open), is_full=is_full)
        self._check_servers(now)
        self._demand.give_back_idle(self._waiting)
        for job, grace in list(self._stopping.items()):
            self._send_stop(job, grace)
        self._waiting.forget_cancelled()
        self._fail_impossible_jobs(now)

    def _check_servers(self, now: float) -> None:
        """Find out which servers the placement accepts, if it has a rule; if that fails, fail the queued jobs."""
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

    def _fail_impossible_jobs(self, now: float) -> None:
        """Fail the jobs that no remaining node can run: the nodes are gone, or never had slots."""
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
        reasons = describe_unable(self.nodes(), able) or "the nodes given in on= were removed"
        for job in stuck:
            self._fail_waiting(job, JobLostError(f"{job.name} cannot run on any node: {reasons}"))

    # --- the end of jobs ---

    def ended(self, job: Job) -> None:
        """Record that a job has a result."""
        self._open.discard(job)
        self._stopping.pop(job, None)

    def requeue(self, job: Job) -> None:
        """Return a job to the queue that was sent but not begun."""
        job.begin_again()
        if job.cancel_asked:
            self._end_cancelled(job)
        else:
            self._waiting.put_back(job)

    def lose(self, job: Job, why: str, *, away: bool = False) -> None:
        """Run a job again, or mark it as lost. `away`: lost because the client, which resumes, was away."""
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
            again = f" after {job.losses} attempts" if job.losses > 1 else ""
            self.ended(job)
            job.fail(JobLostError(f"{job.name} is lost{again}: {why}"))

    def _begin_stop(self, job: Job, grace: float) -> None:
        if job.done():
            return
        if self._waiting.discard(job):  # it is queued again, because its worker is gone
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

"""The thread that looks after the jobs of one network.

It has connections of its own: one to the supervisor of each node, which tells of slots and workers, and one to each
worker, on which jobs and results pass. So it never touches what the thread of the network uses, and jobs go on while
that computes, or sleeps. All of its state belongs to it; others leave calls for it in a queue.
"""

import collections
import contextlib
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable

from pconnect.errors import ConfigurationError, JobLostError
from pconnect.jobs.job import Functions, Job
from pconnect.jobs.shared_arrays import Contents
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pconnect.scheduler.extension import Extension
from pconnect.scheduler.job_queue import JobQueue
from pconnect.scheduler.node_workers import RemoteWorker
from pconnect.scheduler.worker_manager import WorkerManager
from pconnect.session.client_mesh import ClientMesh

log = logging.getLogger("pconnect")

_LOOK = 0.2  # seconds between two looks at what only time changes
_IDLE_SECONDS = 60.0  # after which workers are given back
_NO_NODE_SECONDS = 0.7  # so long a queue waits for a node when there is none


class Scheduler:
    """The jobs of one network.

    Parameters
    ----------
    mesh
        The network; its servers' nodes run the jobs.

    Attributes
    ----------
    functions
        Those that jobs call.
    contents
        Those of large arrays that jobs share.
    """

    def __init__(self, mesh: ClientMesh) -> None:
        mesh_setup = mesh.mesh_setup
        if mesh_setup is None:
            raise ConfigurationError("jobs need a network made by pconnect")
        self._mesh = mesh
        self.functions = Functions()
        self.contents = Contents()
        self.limits = mesh.limits
        self._numbers = itertools.count(1)
        self._submitted: collections.deque[Job] = collections.deque()
        self._calls: collections.deque[Callable[[], object]] = collections.deque()
        self._waiting = JobQueue()
        self._has_cancelled = False  # there are cancelled jobs in these
        self._open: set[Job] = set()  # those that have not ended
        self._stopping: dict[Job, float] = {}  # to be interrupted, with the patience
        self._event_loop = EventLoop()
        self._manager = WorkerManager(mesh.servers.values(), mesh_setup, self._event_loop, self)
        self._pools = self._manager.pools
        self._wakeup, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._wakeup.setblocking(False)
        self._event_loop.watch(self._wakeup.fileno(), self._drain_wakeups)
        self._sleeping = False
        self._closed = ""
        self._no_node_since: float | None = None
        self._looked_at = 0.0
        self._exclusive: collections.Counter[int] = collections.Counter()  # for how many executors, by node
        self._extensions: list[Extension] = []
        self._has_heard = threading.Event()  # of all servers how many slots they have, or that they are gone
        self._thread = threading.Thread(target=self._run, name="pconnect jobs", daemon=True)
        self._thread.start()

    # --- for other threads ---

    def next_number(self) -> int:
        """Return the number of the next job."""
        return next(self._numbers)

    def finished_commands(self) -> tuple[int, ...]:
        """Return by node the last command that has ended there: what it has done, jobs from now on see."""
        return tuple([server.commands.last_finished for server in self._mesh.servers.values()])

    def count_slots(self, nodes: Collection[int], timeout: float) -> int:
        """Return how many slots the servers of some nodes have; two nodes of one server have the same.

        Raises
        ------
        TimeoutError
            Not all have said it in time.
        """
        if not self._has_heard.wait(timeout):
            silent = self._manager.describe_silent(nodes)
            raise TimeoutError(f"{silent}: no word of how many slots there are, after {timeout:g} s")
        return self._manager.count_slots(nodes)

    def submit(self, job: Job) -> None:
        """Put a job into the queue."""
        self._open.add(job)
        self._submitted.append(job)
        if self._closed:
            self._fail_all()
        self._wake()

    def purge(self, job: Job) -> None:
        """Take note that a job which was not sent is cancelled."""
        self._open.discard(job)
        job.begin()
        self._has_cancelled = True

    def ended(self, job: Job) -> None:
        """Take note that a job has a result."""
        self._open.discard(job)
        self._stopping.pop(job, None)

    def stop(self, job: Job, patience: float) -> None:
        """Interrupt a job that was sent, and kill its worker if that does not help."""
        self.call(lambda: self._begin_stop(job, patience))

    def set_exclusive(self, nodes: Iterable[int], change: int) -> None:
        """Have the servers of some nodes for this network alone (1), with all their slots, or no longer (-1)."""
        self.call(lambda: self._exclusive.update(dict.fromkeys(nodes, change)))

    def attend(self, extension: Extension) -> None:
        """Have somebody look after the jobs, too, in this loop."""
        extension.begin(self._pools, self._event_loop, self._open, self._allowed)
        self.call(lambda: self._extensions.append(extension))

    def call(self, function: Callable[[], object]) -> None:
        """Have something done by the thread of the jobs."""
        self._calls.append(function)
        self._wake()

    def close(self, reason: str) -> None:
        """End the thread; jobs that have not ended are lost."""
        if not self._closed:
            self._closed = reason
            self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def _wake(self) -> None:
        if self._sleeping:
            self._sleeping = False
            with contextlib.suppress(OSError):  # it is awake anyway, or has ended
                self._waker.send(b"x")

    def _drain_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(1000)

    # --- the loop ---

    def _run(self) -> None:
        try:
            self._manager.begin()
            while not self._closed:
                self._sleeping = True
                waits = not (self._submitted or self._calls)
                self._event_loop.poll(_LOOK if waits else 0)
                self._sleeping = False
                self._step()
        except BaseException as error:
            log.exception("the thread that looks after jobs has failed")
            self._closed = f"the thread that looks after jobs has failed: {error!r}"
        finally:
            self._has_heard.set()
            self._fail_all()
            self._event_loop.close()
            self._wakeup.close()
            self._waker.close()

    def _step(self) -> None:
        while self._calls:
            self._calls.popleft()()
        while self._submitted:
            self._waiting.add(self._submitted.popleft())
        if not self._has_heard.is_set() and self._manager.has_heard:
            self._has_heard.set()
        now = time.monotonic()
        if now - self._looked_at > _LOOK:
            self._looked_at = now
            self._look(now)
        for extension in self._extensions:
            extension.step()
        if not any(extension.pauses for extension in self._extensions):
            self._dispatch()
            self._ask_for_workers(now)
        for pool in self._pools.values():
            if pool.channel is not None and pool.channel.has_unsent:
                self._event_loop.flush(pool.channel)

    def _fail_all(self) -> None:
        error = self._closed
        for extension in self._extensions:
            extension.end(error)
        jobs = list(self._open)
        self._open.clear()
        self._waiting.clear()
        self._submitted.clear()
        for job in jobs:
            if not job.done() and job.begin():
                job.fail(JobLostError(f"{job.name} has no result: {error}"))

    # --- giving out jobs ---

    def _dispatch(self) -> None:
        if not self._waiting:
            return
        workers = [w for pool in self._pools.values() for w in pool.workers.values() if w.has_room]
        workers.sort(key=lambda worker: len(worker.jobs))
        for position, worker in enumerate(workers):
            if not self._waiting:
                return
            share = -(-len(self._waiting.common) // (len(workers) - position))
            jobs = self._take_jobs(worker, max(1, share))
            if jobs:
                worker.send(jobs)
                self._event_loop.flush(worker.connection)

    def _take_jobs(self, worker: RemoteWorker, count: int) -> list[Job]:
        taken: list[Job] = []
        most = min(len(worker.jobs) + count, worker.limit)
        for jobs in self._waiting.choosy_in_order():
            most = self._take_from(jobs, worker, most, taken)
        self._take_from(self._waiting.common, worker, most, taken)
        return taken

    def _take_from(
        self, queue: collections.deque[Job], worker: RemoteWorker, most: int, taken: list[Job]
    ) -> int:
        """Take jobs for a worker that is to have no more than `most`; return how many it is to have with these."""
        is_common = queue is self._waiting.common
        while queue and not worker.alone:
            job = queue[0]
            within = min(most, job.estimate.ahead)
            if len(worker.jobs) + len(taken) >= within or not (is_common or self._suits(worker, job, taken)):
                break
            if self._is_stale(worker, job):
                break
            most = within
            queue.popleft()
            self._begin(worker, job, taken)
        return most

    def _begin(self, worker: RemoteWorker, job: Job, taken: list[Job]) -> None:
        if not job.begin():
            return
        job.node, job.host = worker.pool.node, worker.pool.host
        job.is_started = False
        if job.options.isolate:
            worker.alone = True
        taken.append(job)

    def _is_stale(self, worker: RemoteWorker, job: Job) -> bool:
        """Whether a worker lacks what a command has done before a job was submitted; then it has to go."""
        node = worker.pool.node
        # After a restart of the engine, nothing is left of the commands before.
        if worker.command >= min(job.after[node - 1], worker.pool.server.commands.last_finished):
            return False
        self._manager.retire(worker)
        return True

    def _allowed(self, job: Job) -> set[int]:
        """Return the nodes where a job may be run: not where it was lost, as long as there are others."""
        ready = {pool.node for pool in self._pools.values() if pool.is_ready and pool.slots}
        if job.options.on:
            ready &= job.options.on
        return ready - job.avoid or ready

    def _suits(self, worker: RemoteWorker, job: Job, taken: list[Job]) -> bool:
        if worker.pool.node not in self._allowed(job):
            return False
        if job.options.isolate:
            if worker.jobs or taken:
                return False
            if worker.served:
                self._manager.retire(worker)
                return False
        return True

    def _want_more(self, now: float) -> None:
        """Want more workers, as far as there are slots, for the jobs that wait."""
        ready = [pool for pool in self._pools.values() if pool.is_ready and pool.slots]
        shortage = len(self._waiting)
        for pool in ready:
            shortage -= max(0, pool.wanted - len(pool.living))  # they are on their way
            shortage -= sum(worker.is_open and not worker.jobs for worker in pool.living)
        able = [pool for pool in ready if now >= pool.refused_until]
        while shortage > 0 and (able := [pool for pool in able if pool.wanted < (pool.slots or 0)]):
            pool = min(able, key=lambda pool: pool.wanted / (pool.slots or 1))
            pool.wanted += 1
            shortage -= 1
        for jobs in self._waiting.choosy_in_order():
            self._manager.staff(self._allowed(jobs[0]))

    def _ask_for_workers(self, now: float) -> None:
        if self._waiting:
            self._want_more(now)
        for pool in self._pools.values():
            exclusive = self._exclusive[pool.node] > 0
            if exclusive and pool.is_ready and now >= pool.refused_until:
                pool.wanted = pool.slots or 0
            pool.want(exclusive=exclusive)

    def _look(self, now: float) -> None:
        """Do what only time makes necessary."""
        for pool in self._pools.values():
            is_held = self._exclusive[pool.node] > 0
            for worker in pool.workers.values():
                if worker.jobs or is_held or not worker.idle_since:
                    worker.idle_since = now
                elif not self._waiting and now - worker.idle_since > _IDLE_SECONDS and not worker.retiring:
                    pool.wanted = max(0, pool.wanted - 1)
                    self._manager.retire(worker)
        for job, patience in list(self._stopping.items()):
            self._send_stop(job, patience)
        if self._has_cancelled:  # else nobody need look through a long queue
            self._has_cancelled = False
            self._waiting.forget_done()
        self._fail_what_cannot_run(now)

    def _fail_what_cannot_run(self, now: float) -> None:
        """Fail the jobs for which there is no node any more, or none with slots."""
        able = {pool.node for pool in self._pools.values() if not pool.gone and pool.slots != 0}
        constrained = self._waiting.choosy_in_order()
        queues = [jobs for jobs in constrained if jobs[0].options.on and not jobs[0].options.on & able]
        stuck = [job for jobs in queues for job in jobs] if able else list(self._waiting)
        if not stuck:
            self._no_node_since = None
            return
        if self._no_node_since is None:
            self._no_node_since = now
        if now - self._no_node_since < _NO_NODE_SECONDS:
            return
        reasons = self._manager.describe_unable(able)
        for job in stuck:
            self._waiting.discard(job)
            if job.begin():
                self.ended(job)
                job.fail(JobLostError(f"{job.name} cannot be run anywhere: {reasons}"))

    # --- what becomes of jobs ---

    def requeue(self, job: Job) -> None:
        """Put a job back that was sent and not begun."""
        job.is_started = False
        if job.cancel_asked:
            self._end_cancelled(job)
        else:
            self._waiting.put_back(job)

    def lose(self, job: Job, why: str) -> None:
        """Run a job again, or say that it is lost."""
        self._stopping.pop(job, None)
        job.losses += 1
        if job.losses <= job.options.retries and not job.cancel_asked:
            job.avoid |= {job.node or 0}
            self.requeue(job)
        else:
            again = f" (the last of {job.losses} times)" if job.losses > 1 else ""
            self.ended(job)
            job.fail(JobLostError(f"{job.name} is lost{again}: {why}"))

    def _begin_stop(self, job: Job, patience: float) -> None:
        if job.done():
            return
        if self._waiting.discard(job):  # it waits again, because its worker is gone
            self._end_cancelled(job)
            return
        self._stopping[job] = patience
        self._send_stop(job, patience)

    def _end_cancelled(self, job: Job) -> None:
        self.ended(job)
        job.fail(KeyboardInterrupt())

    def _send_stop(self, job: Job, patience: float) -> None:
        """Tell both who may have it: the worker, that may not have begun it, and the supervisor, that can interrupt."""
        pool = self._pools.get(job.node or 0)
        workers = [worker for worker in pool.workers.values() if job.number in worker.jobs] if pool else []
        if job.done() or not workers or pool is None or pool.channel is None:
            self._stopping.pop(job, None)
            return
        workers[0].connection.post(Kind.DROP, job.number)
        self._event_loop.flush(workers[0].connection)
        pool.channel.post(Kind.STOP, workers[0].number, [job.number, patience])
        self._event_loop.flush(pool.channel)

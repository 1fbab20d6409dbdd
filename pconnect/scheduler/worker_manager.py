"""All the workers of a network and the job channels of its nodes, in the loop of the thread that looks after jobs."""

import logging
import time
from collections.abc import Collection, Iterable
from typing import Any, Protocol

from pconnect.commands.captured_output import with_last_words
from pconnect.errors import ConnectionLostError
from pconnect.jobs.job import Job
from pconnect.jobs.outcome import is_dropped, report, settle, shown_output
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import JOB_CHANNEL
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pconnect.scheduler.node_workers import NodeWorkers, RemoteWorker
from pconnect.session.mesh_setup import MeshSetup
from pconnect.session.server import Server
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after

log = logging.getLogger("pconnect")

_DIAL_TIMEOUT = 30.0
_REFUSED_SECONDS = 1.0  # so long nothing more is asked of a node that could not start a worker
_SHORT_SECONDS = 1.0  # so long a node waits for a first slot before another of ours gives up one of its own
_MAX_SUSPICIONS = 3  # so often a worker may die before it has begun a job that it was to run next


class Employer(Protocol):
    """Who decides what becomes of jobs."""

    def ended(self, job: Job) -> None:
        """Take note that a job has a result."""

    def requeue(self, job: Job) -> None:
        """Put a job back that was sent and not begun."""

    def lose(self, job: Job, why: str) -> None:
        """Run a job again whose worker is gone, or say that it is lost."""


class WorkerManager:
    """The pools of all nodes.

    Parameters
    ----------
    servers, invitation
        Of the network.
    progress
        The loop.
    owner
        Decides what becomes of jobs.

    Attributes
    ----------
    pools
        By node.
    """

    def __init__(
        self, servers: Iterable[Server], mesh_setup: MeshSetup, event_loop: EventLoop, owner: Employer
    ) -> None:
        self.pools = {server.node: NodeWorkers(server) for server in servers}
        self._mesh_setup = mesh_setup
        self._event_loop = event_loop
        self._owner = owner

    def begin(self) -> None:
        """Connect to all nodes."""
        for pool in self.pools.values():
            self._dial_pool(pool)

    @property
    def has_heard(self) -> bool:
        """Whether all servers have said how many slots they have, or are gone."""
        return all(pool.has_answered for pool in self.pools.values())

    def count_slots(self, nodes: Collection[int]) -> int:
        """Return how many slots the servers of some nodes have; two nodes of one server have the same."""
        pools = [pool for pool in self.pools.values() if pool.node in nodes and not pool.gone]
        servers = {pool.place: pool.slots or 0 for pool in pools}
        return sum(servers.values())

    def describe_silent(self, nodes: Collection[int]) -> str:
        """Return which of some nodes have not said how many slots they have."""
        silent = [pool for pool in self.pools.values() if pool.node in nodes and pool.slots is None]
        return ", ".join(f"node {pool.node} ({pool.host})" for pool in silent)

    def describe_unable(self, able: Collection[int]) -> str:
        """Return why all nodes but some can run nothing."""
        unable = [pool for pool in self.pools.values() if pool.node not in able]
        return "; ".join(
            f"node {pool.node} ({pool.host}): {pool.gone or 'its server offers no slots'}" for pool in unable
        )

    # --- nodes ---

    def _dial_pool(self, pool: NodeWorkers) -> None:
        def end(outcome: Channel | Exception) -> None:
            if isinstance(outcome, Channel):
                pool.open(outcome, lambda message: self._hear(pool, message), lambda _: self._lose(pool))
                assert pool.channel is not None  # noqa: S101 - it was just opened
                self._event_loop.add(pool.channel)
            else:
                pool.gone, pool.is_lost = f"no connection for jobs: {outcome}", True

        self._event_loop.background.start(
            self._mesh_setup.dial(pool.server, JOB_CHANNEL), deadline_after(_DIAL_TIMEOUT), end
        )

    def staff(self, nodes: Collection[int]) -> None:
        """See to it that one of some nodes, all ready, has a worker for a job that may not be run elsewhere.

        Where its server has no slot left because workers of other nodes of this network have them, one of those ends.
        The server cannot know that: to it the network has what it is to have.
        """
        now = time.monotonic()
        pools = [self.pools[node] for node in nodes]
        if not pools or any(pool.living for pool in pools):
            for pool in pools:
                pool.short_since = None
            return
        if not any(pool.wanted for pool in pools):
            pools[0].wanted = 1
        for pool in pools:
            if pool.short_since is None:
                pool.short_since = now
            self._make_room(pool, now)

    def _make_room(self, pool: NodeWorkers, now: float) -> None:
        others = [
            w for other in self.pools.values() if other.place == pool.place for w in other.workers.values()
        ]
        assert pool.short_since is not None  # noqa: S101 - who calls this has set it
        is_full = len(others) >= (pool.slots or 0) or now - pool.short_since > _SHORT_SECONDS
        if not is_full or any(worker.retiring for worker in others):
            return
        # One that has not done anything yet has its turn before.
        able = [worker for worker in others if worker.is_open and (worker.served or not worker.jobs)]
        if able:
            worker = min(able, key=lambda worker: len(worker.jobs))
            worker.pool.wanted = max(0, worker.pool.wanted - 1)
            self.retire(worker)

    def retire(self, worker: RemoteWorker) -> None:
        """Let a worker end what it does, begin nothing more, and end."""
        worker.retire()
        self._event_loop.flush(worker.connection)

    def _lose(self, pool: NodeWorkers) -> None:
        """Take note that a server or its machine is gone."""
        assert pool.channel is not None  # noqa: S101 - it is what was lost
        pool.gone, pool.is_lost = f"it is lost: {pool.channel.error}", True
        for worker in list(pool.workers.values()):
            del pool.workers[worker.number]
            self._event_loop.drain(worker.connection)
            self._event_loop.discard(worker.connection)
            for job in list(worker.jobs.values()):
                self._owner.lose(job, f"node {pool.node} ({pool.host}) is lost: {pool.channel.error}")

    def _hear(self, pool: NodeWorkers, message: Message) -> None:
        """Take what a supervisor says."""
        worker = pool.workers.get(message.tag)
        match message.kind:
            case Kind.POOL:
                pool.take_facts(message.value)
                if pool.gone:
                    pool.wanted = 0
            case Kind.WORKER if isinstance(message.value, str):
                pool.refused_until = time.monotonic() + _REFUSED_SECONDS
                pool.wanted = len(pool.workers)
                pool.told_wanted = pool.wanted, pool.told_wanted[1]
                log.warning("node %d (%s): %s", pool.node, pool.host, message.value)
            case Kind.WORKER:
                self._meet(pool, message.tag, message.value)
            case Kind.KEEP | Kind.DETACH | Kind.LEAVE | Kind.RECOVER | Kind.TAKE | Kind.RESULT:
                pool.on_kept(pool, message)
            case Kind.YIELD if worker is not None:
                self.retire(worker)
            case Kind.RUNNING if worker is not None and message.value[0] in worker.jobs:
                self._take_running(pool, worker, *message.value)
            case Kind.RECALL if worker is not None:
                self._take_back(pool, worker, *message.value)
            case Kind.ENDED if worker is not None:
                self._bury(pool, worker, message.value)

    def _meet(self, pool: NodeWorkers, number: int, facts: dict[str, Any]) -> None:
        worker = pool.workers[number] = RemoteWorker(
            pool, number, facts["pid"], facts["command"], self._mesh_setup.limits
        )

        def end(outcome: Channel | Exception) -> None:
            if number not in pool.workers:
                if isinstance(outcome, Channel):
                    outcome.close()
                return
            if not isinstance(outcome, Channel):
                worker.connection.lose(ConnectionLostError(str(outcome)))  # ENDED comes, too
                return
            worker.open(outcome)
            worker.connection.on_message = lambda message: self._take(worker, message)
            self._event_loop.add(worker.connection)
            if worker.retiring:
                worker.connection.post(Kind.RETIRE)
                self._event_loop.flush(worker.connection)

        self._event_loop.background.start(
            self._mesh_setup.dial(pool.server, number), deadline_after(_DIAL_TIMEOUT), end
        )

    # --- workers ---

    def _take(self, worker: RemoteWorker, message: Message) -> None:
        job = worker.jobs.get(message.tag)
        if job is None:
            return  # told twice by one that died after it had sent it
        if message.kind is Kind.REPORT:
            job.is_started = True
            report(job, message.value)
            return
        self._owner.ended(job)
        if is_dropped(message.value):
            worker.forget(job)
            job.fail(KeyboardInterrupt())
            return
        seconds = settle(job, message.value)
        worker.take(job, seconds)
        if worker.alone:
            self.retire(worker)

    def _take_running(self, pool: NodeWorkers, worker: RemoteWorker, number: int, seconds: float) -> None:
        """Take note that a job takes long; those behind it must not wait."""
        job = worker.jobs[number]
        job.is_started = True
        job.estimate.learn(seconds)
        worker.stuck = number
        self._recall(pool, worker)

    def _recall(self, pool: NodeWorkers, worker: RemoteWorker) -> None:
        if worker.recalling or worker.stuck not in worker.jobs or len(worker.jobs) == 1:
            return
        worker.recalling = worker.stuck
        worker.connection.post(Kind.RECALL, worker.recalling)
        self._event_loop.flush(worker.connection)
        assert pool.channel is not None  # noqa: S101 - it has just been heard
        pool.channel.post(Kind.RECALL, worker.number, worker.recalling)
        self._event_loop.flush(pool.channel)

    def _take_back(self, pool: NodeWorkers, worker: RemoteWorker, number: int, runs_still: bool) -> None:
        """Have the jobs behind a long one done by others, unless the worker has gone on to them already."""
        worker.recalling = 0
        if not runs_still:
            if worker.stuck != number:  # the next is long, too
                self._recall(pool, worker)
            return
        for job in [job for job in reversed(worker.jobs.values()) if job.number != number]:
            worker.forget(job)
            self._owner.requeue(job)

    def _bury(self, pool: NodeWorkers, worker: RemoteWorker, told: dict[str, Any]) -> None:
        del pool.workers[worker.number]
        self._event_loop.drain(worker.connection)
        self._event_loop.discard(worker.connection)
        for message in worker.decode(told["results"]):
            self._take(worker, message)
        jobs = list(worker.jobs.values())
        running = worker.jobs.get(told["job"])
        if running is None and jobs and not worker.retiring and not pool.gone:
            jobs[0].suspicions += 1  # it may have died of what it was about to receive
            if jobs[0].suspicions >= _MAX_SUSPICIONS:
                running = jobs[0]
        if running is not None:
            jobs.remove(running)
            (out, out_before), (err, err_before) = told["outputs"]
            running.duration = told["seconds"]
            running.stdout, running.stderr = shown_output(out, out_before), shown_output(err, err_before)
        for job in reversed(jobs):
            self._owner.requeue(job)
        if running is not None:
            words = f"its worker at node {pool.node} ({pool.host}) died: {told['how']}"
            self._owner.lose(running, with_last_words(words, running.stdout + running.stderr))

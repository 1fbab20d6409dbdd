"""The client's side of `detach`: it hands its jobs over to the servers, which then run them without a client.

The phases follow each other in this order; for the phases of the server see `pserver.session.detached_jobs`::

    client                        server
    PLANNING    choose a node for each job
    UPLOADING   LIMIT ───────────▶ will run only some of an executor's jobs at the same time
                KEEP a copy ─────▶ stores it in its job store
    UPLOADED    the caller may still undo: UNDONE, and the jobs continue as before
    SILENCING   DETACH ──────────▶ workers write results to the store; answers when no message is in transit
    LISTENING   receive earlier messages
    LEAVING     LEAVE, with the jobs that have ended ──────▶ owns all others
    LEFT

The jobs are all that have not ended, including those that an executor or pool holds back on the client because of its
limit. All phases run in the scheduler's thread, which gives no jobs to workers meanwhile.
"""

import concurrent.futures
import enum
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from hashlib import sha256

from pconnect.detach.shared_limit import SharedLimit
from pconnect.detach.token import SECRET_BYTES
from pconnect.errors import ConfigurationError, ConnectionLostError, JobLostError, ParallelError
from pconnect.executors.throttle import Throttle
from pconnect.jobs.job import Job
from pconnect.loop.event_loop import EventLoop
from pconnect.programs.program import ProgramJob
from pconnect.protocol.frames import NO_LIMIT
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message, encode_message
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.scheduler.remote_worker import RemoteWorker

# Maximum number of bytes waiting to be sent to one server, apart from a single job.
_MAX_UNSENT_BYTES = 2**23
_QUIET_SECONDS = 0.3
_LIMIT_JOBS = 2**16  # maximum number of jobs in a LIMIT message


class Phase(enum.Enum):
    """The progress of handing over the jobs."""

    PLANNING = enum.auto()
    UPLOADING = enum.auto()
    UPLOADED = enum.auto()
    SILENCING = enum.auto()
    LISTENING = enum.auto()
    LEAVING = enum.auto()
    LEFT = enum.auto()
    UNDONE = enum.auto()


class _Share:
    """One node, and the jobs assigned to it."""

    def __init__(self, node: NodeWorkers) -> None:
        self.node = node
        self.jobs: dict[int, Job] = {}
        self.workers: dict[int, int] = {}  # by job, for jobs that a worker has already
        self.queue: deque[Job] = deque()
        self.sent_parts: set[str] = set()

    def ask(self, kind: Kind, tag: int, value: object) -> None:
        assert self.node.channel is not None  # noqa: S101 - the node is ready
        self.node.channel.post_encoded(encode_message(kind, tag, value, NO_LIMIT))
        self.node.unanswered += 1

    def limit(self, number: int, most: int, jobs: Iterable[Job]) -> None:
        """Let at most `most` of these jobs run at the same time, as far as they are assigned to this node."""
        numbers = [job.number for job in jobs if job.number in self.jobs]
        for begin in range(0, len(numbers), _LIMIT_JOBS):
            self.ask(Kind.LIMIT, number, [most, numbers[begin : begin + _LIMIT_JOBS]])

    def upload(self) -> None:
        """Send as many jobs as possible without using much memory."""
        channel = self.node.channel
        while self.queue and channel is not None and channel.unsent_bytes < _MAX_UNSENT_BYTES:
            self._upload(self.queue.popleft())

    def _upload(self, job: Job) -> None:
        function, buffers = job.function, job.buffers
        if job.done() or function is None:
            return
        parts = {f"f{function.number}": function.encode} | {f"a{a.number}": a.encode for a in job.shared}
        missing = {name: b"".join(parts[name]()) for name in parts if name not in self.sent_parts}
        self.sent_parts |= missing.keys()
        server = self.node.server
        facts = {
            "name": job.name,
            "retries": (job.options.retries or 0) - job.losses,
            "isolate": job.options.isolate,
            "after": server.commands.finished_by(job.after),
            "limit": job.options.time_limit,
            "grace": job.options.grace,
            "parts": list(parts),
            "worker": self.workers.get(job.number, 0),
        }
        self.ask(Kind.KEEP, job.number, [facts, missing, b"".join(buffers)])


class Detaching:
    """The jobs of one network while they are being handed over; an extension of the scheduler.

    `throttles`: those of executors and pools that hold jobs back.
    """

    def __init__(self, throttles: Collection[Throttle] = ()) -> None:
        self._throttles = throttles
        self._limits: dict[Job, SharedLimit] = {}
        self.secret = secrets.token_bytes(SECRET_BYTES)
        #: Done when all jobs are on the servers; then call `go_on` or `undo` in the scheduler's thread.
        self.uploaded: concurrent.futures.Future[dict[int, dict[int, Job]]] = concurrent.futures.Future()
        #: Done when the servers own the jobs; the result is the jobs of each node, by number.
        self.left: concurrent.futures.Future[dict[int, dict[int, Job]]] = concurrent.futures.Future()
        self._shares: dict[int, _Share] = {}
        self._phase = Phase.PLANNING
        self._heard: object = None
        self._quiet_since = 0.0

    def begin(
        self,
        nodes: dict[int, NodeWorkers],
        event_loop: EventLoop,
        open_jobs: set[Job],
        allowed: Callable[[Job], set[int]],
    ) -> None:
        """Start handing over; see `pconnect.scheduler.scheduler.Extension`."""
        self._nodes, self._event_loop, self._open, self._allowed = nodes, event_loop, open_jobs, allowed

    @property
    def pauses(self) -> bool:
        """Whether no jobs are given to workers for now."""
        return self._phase is not Phase.UNDONE

    def step(self) -> None:
        """Do the next step if it is due."""
        try:
            match self._phase:
                case Phase.PLANNING:
                    self._plan()
                case Phase.UPLOADING:
                    self._upload()
                case Phase.SILENCING:
                    self._await_silence()
                case Phase.LISTENING:
                    self._listen()
                case Phase.LEAVING:
                    self._await_leave()
            for share in self._shares.values():
                channel = share.node.channel
                if channel is not None and channel.has_unsent:
                    self._event_loop.flush(channel)
        except ParallelError as error:
            self._fail(error)

    def end(self, reason: str) -> None:
        """Fail the futures that are not done, because the scheduler's thread ends; so do the jobs handed over."""
        for future in (self.uploaded, self.left):
            if not future.done():
                future.set_exception(ConnectionLostError(f"the network could not be detached: {reason}"))
        shares = self._shares.values() if self._phase is Phase.LEFT else ()
        for job in [job for share in shares if not share.node.unanswered for job in share.jobs.values()]:
            self._open.discard(job)
            if not job.done() and job.begin():
                text = f"{job.name} has no result: the network was detached; recover it with the token"
                job.fail(JobLostError(text))

    def undo(self) -> None:
        """Cancel handing over; the jobs continue as before."""
        self._phase = Phase.UNDONE
        for share in self._shares.values():
            if share.node.is_ready:
                share.ask(Kind.KEEP, 0, None)

    def _fail(self, error: ParallelError) -> None:
        self.undo()
        (self.left if self.uploaded.done() else self.uploaded).set_exception(error)

    # --- the steps ---

    def _plan(self) -> None:
        """Choose a node for each job, once every server has reported its slots.

        Answers to an attempt that was undone must arrive first: they would count as answers to this one.
        """
        nodes = self._nodes.values()
        if not all(node.has_answered and not (node.is_ready and node.unanswered) for node in nodes):
            return
        at = {number: worker for node in nodes for worker in node.workers.values() for number in worker.jobs}
        # First the throttles: a job that one of them starts meanwhile is in both.
        held = [(throttle.limit, throttle.unfinished()) for throttle in list(self._throttles)]
        limited = [(self._divide(most, jobs, at), jobs) for most, jobs in held if most is not None]
        jobs = {*self._open, *(job for _, jobs in limited for job in jobs)}
        for job in sorted(jobs, key=lambda job: job.number):
            if job.done() or job.cancel_asked:
                continue
            if isinstance(job, ProgramJob):
                raise ConfigurationError(
                    f"{job!r} cannot be detached, because its streams end here: wait for it, or cancel it"
                )
            worker = at.get(job.number)
            share = self._share(worker.node) if worker is not None else self._choose(job)
            if worker is not None:
                share.workers[job.number] = worker.number
            share.jobs[job.number] = job
            share.queue.append(job)
        if not self._shares:
            raise ConfigurationError("there is nothing to detach: all jobs have ended")
        for share in self._shares.values():
            share.node.on_kept = self._on_message
            share.ask(Kind.KEEP, 0, sha256(self.secret).digest())
            for number, (limit, limited_jobs) in enumerate(limited, 1):
                share.limit(number, limit.parts[share.node.number], limited_jobs)
        self._phase = Phase.UPLOADING

    def _divide(self, most: int, jobs: list[Job], at: dict[int, RemoteWorker]) -> SharedLimit:
        """Divide the limit of some jobs among the nodes."""
        workers = {(at[job.number].node, at[job.number].number) for job in jobs if job.number in at}
        # Jobs with the same terms may run on the same nodes, and there may be a hundred thousand jobs.
        samples = {(job.options.on, job.avoid): job for job in jobs if job.number not in at}.values()
        nodes = set().union(*map(self._allowed, samples))
        slots = {number: self._nodes[number].slots or 1 for number in nodes}
        limit = SharedLimit(most, Counter(node for node, _ in workers), slots)
        self._limits.update(dict.fromkeys(jobs, limit))
        return limit

    def _share(self, number: int) -> _Share:
        if number not in self._shares:
            self._shares[number] = _Share(self._nodes[number])
        return self._shares[number]

    def _choose(self, job: Job) -> _Share:
        allowed = self._allowed(job)
        if not allowed:
            raise ConfigurationError(f"{job.name} cannot be detached: no node is able to run it now")

        def load(number: int) -> float:
            share = self._shares.get(number)
            return len(share.jobs) / (self._nodes[number].slots or 1) if share else 0.0

        if (limit := self._limits.get(job)) is not None:
            return self._share(limit.choose(allowed, load))
        return self._share(min(sorted(allowed), key=load))

    def _upload(self) -> None:
        for share in self._shares.values():
            if not share.node.is_ready:
                raise ConnectionLostError(f"{share.node} is lost, so no job is detached: {share.node.gone}")
            share.upload()
        if not any(share.queue or share.node.unanswered for share in self._shares.values()):
            self._phase = Phase.UPLOADED
            self.uploaded.set_result({number: dict(share.jobs) for number, share in self._shares.items()})

    def go_on(self) -> None:
        """Make the workers stop sending, then leave."""
        for share in self._living():
            share.ask(Kind.DETACH, 0, None)
        self._phase = Phase.SILENCING

    def _living(self) -> list[_Share]:
        return [share for share in self._shares.values() if share.node.is_ready]

    def _await_silence(self) -> None:
        if not any(share.node.unanswered for share in self._living()):
            self._quiet_since = time.monotonic()
            self._phase = Phase.LISTENING

    def _listen(self) -> None:
        """Receive messages that are still in transit."""
        arriving = [
            worker.connection.arriving_bytes
            for share in self._living()
            for worker in share.node.workers.values()
            if worker.connection.error is None
        ]
        heard = arriving, sum(job.done() for share in self._shares.values() for job in share.jobs.values())
        now = time.monotonic()
        if heard != self._heard:
            self._heard, self._quiet_since = heard, now
        elif now - self._quiet_since >= _QUIET_SECONDS and not any(total for _, total in arriving):
            for share in self._living():
                left = {n: job for n, job in share.jobs.items() if not (job.done() or job.cancel_asked)}
                ended, share.jobs = [n for n in share.jobs if n not in left], left
                share.ask(Kind.LEAVE, 0, ended)
            self._phase = Phase.LEAVING

    def _await_leave(self) -> None:
        if any(share.node.unanswered for share in self._living()):
            return
        self._phase = Phase.LEFT
        answered = {number: share.jobs for number, share in self._shares.items() if not share.node.unanswered}
        self.left.set_result(answered)

    def _on_message(self, node: NodeWorkers, message: Message) -> None:
        share = self._shares.get(node.number)
        if share is None or message.kind not in {Kind.KEEP, Kind.LIMIT, Kind.DETACH, Kind.LEAVE}:
            return
        node.unanswered -= 1
        if message.value is not None and self.pauses:
            self._fail(ConfigurationError(f"{node}: {message.value}"))

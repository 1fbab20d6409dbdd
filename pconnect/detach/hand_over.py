"""The client's side of `detach`: its jobs are handed over to the servers, which go on with them alone.

In three steps, see `pserver.session.detached_jobs`: a copy of each job that has not ended is uploaded; the workers are
told to send no more; what has come by then is taken in, and the servers are told which jobs have ended by that. After
the first step all can still be undone. The steps are done in the thread that looks after jobs, which gives out none
meanwhile.
"""

import concurrent.futures
import secrets
import time
from collections import deque
from collections.abc import Callable
from hashlib import sha256

from pconnect.detach.token import SECRET_BYTES
from pconnect.errors import ConfigurationError, ConnectionLostError, ParallelError
from pconnect.jobs.job import Job
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import NO_LIMIT
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message, encode_message
from pconnect.scheduler.node_workers import NodeWorkers

# So much waits to be sent to one server, beside one job.
_MAX_UNSENT_BYTES = 2**23
_QUIET_SECONDS = 0.3


class _Node:
    """One node, and the jobs that it gets."""

    def __init__(self, pool: NodeWorkers) -> None:
        self.pool = pool
        self.jobs: dict[int, Job] = {}
        self.workers: dict[int, int] = {}  # by job, of those that a worker has already
        self.queue: deque[Job] = deque()
        self.sent_parts: set[str] = set()
        self.awaited = 0  # answers

    def ask(self, kind: Kind, tag: int, value: object) -> None:
        assert self.pool.channel is not None  # noqa: S101 - it is ready
        self.pool.channel.post_encoded(encode_message(kind, tag, value, NO_LIMIT))
        self.awaited += 1

    def upload(self) -> None:
        """Send as many jobs as can be sent without taking much memory."""
        channel = self.pool.channel
        while self.queue and channel is not None and channel.unsent_bytes < _MAX_UNSENT_BYTES:
            self._upload(self.queue.popleft())

    def _upload(self, job: Job) -> None:
        function, buffers = job.function, job.buffers
        if job.done() or function is None:
            return
        parts = {f"f{function.number}": function.encode} | {f"a{a.number}": a.encode for a in job.shared}
        missing = {name: b"".join(parts[name]()) for name in parts if name not in self.sent_parts}
        self.sent_parts |= missing.keys()
        server = self.pool.server
        facts = {
            "name": job.name,
            "retries": job.options.retries - job.losses,
            "isolate": job.options.isolate,
            "after": min(job.after[self.pool.node - 1], server.commands.last_finished),
            "limit": job.options.time_limit,
            "grace": job.options.grace,
            "parts": list(parts),
            "worker": self.workers.get(job.number, 0),
        }
        self.ask(Kind.KEEP, job.number, [facts, missing, b"".join(buffers)])


class Detaching:
    """The jobs of one network while they are handed over; an attendant of the dispatcher.

    Attributes
    ----------
    secret
        For the token.
    uploaded
        Ends when all jobs are at the servers; then `go_on` or `undo` is to be called in the dispatcher's thread.
    left
        Ends when they are the servers'. Its value is those of each node, by number.
    """

    def __init__(self) -> None:
        self.secret = secrets.token_bytes(SECRET_BYTES)
        self.uploaded: concurrent.futures.Future[dict[int, dict[int, Job]]] = concurrent.futures.Future()
        self.left: concurrent.futures.Future[dict[int, dict[int, Job]]] = concurrent.futures.Future()
        self.pauses = True
        self._nodes: dict[int, _Node] = {}
        self._step: Callable[[], object] = self._plan
        self._state: object = None
        self._quiet_since = 0.0

    def begin(
        self,
        pools: dict[int, NodeWorkers],
        event_loop: EventLoop,
        open_jobs: set[Job],
        allowed: Callable[[Job], set[int]],
    ) -> None:
        """Begin; see `pconnect.scheduler.extension.Extension`."""
        self._pools, self._event_loop, self._open, self._allowed = pools, event_loop, open_jobs, allowed

    def step(self) -> None:
        """Do the next step, if it is time for that."""
        try:
            self._step()
            for node in self._nodes.values():
                if node.pool.channel is not None and node.pool.channel.has_unsent:
                    self._event_loop.flush(node.pool.channel)
        except ParallelError as error:
            self._fail(error)

    def end(self, reason: str) -> None:
        """Take note that the thread of the jobs ends."""
        for future in (self.uploaded, self.left):
            if not future.done():
                future.set_exception(ConnectionLostError(f"the network could not be detached: {reason}"))

    def undo(self) -> None:
        """Forget it; the jobs go on as before."""
        self.pauses, self._step = False, lambda: None
        for node in self._nodes.values():
            if node.pool.is_ready:
                node.ask(Kind.KEEP, 0, None)

    def _fail(self, error: ParallelError) -> None:
        self.undo()
        (self.left if self.uploaded.done() else self.uploaded).set_exception(error)

    # --- the steps ---

    def _plan(self) -> None:
        """Choose a node for each job, once all servers have said how many slots they have."""
        if not all(pool.has_answered for pool in self._pools.values()):
            return
        at = {
            number: worker
            for pool in self._pools.values()
            for worker in pool.workers.values()
            for number in worker.jobs
        }
        for job in sorted(self._open, key=lambda job: job.number):
            if job.done() or job.cancel_asked:
                continue
            worker = at.get(job.number)
            node = self._node(worker.pool.node) if worker is not None else self._choose(job)
            if worker is not None:
                node.workers[job.number] = worker.number
            node.jobs[job.number] = job
            node.queue.append(job)
        if not self._nodes:
            raise ConfigurationError("there is nothing to detach: all jobs have ended")
        for node in self._nodes.values():
            node.pool.on_kept = self._hear
            node.ask(Kind.KEEP, 0, sha256(self.secret).digest())
        self._step = self._upload

    def _node(self, number: int) -> _Node:
        if number not in self._nodes:
            self._nodes[number] = _Node(self._pools[number])
        return self._nodes[number]

    def _choose(self, job: Job) -> _Node:
        allowed = self._allowed(job)
        if not allowed:
            raise ConfigurationError(f"{job.name} cannot be detached: no node could run it now")

        def load(number: int) -> float:
            node = self._nodes.get(number)
            return len(node.jobs) / (self._pools[number].slots or 1) if node else 0.0

        return self._node(min(sorted(allowed), key=load))

    def _upload(self) -> None:
        for node in self._nodes.values():
            if not node.pool.is_ready:
                raise ConnectionLostError(
                    f"node {node.pool.node} ({node.pool.host}) is lost, nothing is detached: {node.pool.gone}"
                )
            node.upload()
        if not any(node.queue or node.awaited for node in self._nodes.values()):
            self._step = lambda: None
            self.uploaded.set_result({number: dict(node.jobs) for number, node in self._nodes.items()})

    def go_on(self) -> None:
        """Have the workers send no more, and leave."""
        for node in self._living():
            node.ask(Kind.DETACH, 0, None)
        self._step = self._await_silence

    def _living(self) -> list[_Node]:
        return [node for node in self._nodes.values() if node.pool.is_ready]

    def _await_silence(self) -> None:
        if not any(node.awaited for node in self._living()):
            self._quiet_since = time.monotonic()
            self._step = self._listen

    def _listen(self) -> None:
        """Take in what is still on its way."""
        arriving = [
            worker.connection.arriving_bytes
            for node in self._living()
            for worker in node.pool.workers.values()
            if worker.connection.error is None
        ]
        state = arriving, sum(job.done() for node in self._nodes.values() for job in node.jobs.values())
        now = time.monotonic()
        if state != self._state:
            self._state, self._quiet_since = state, now
        elif now - self._quiet_since >= _QUIET_SECONDS and not any(total for _, total in arriving):
            for node in self._living():
                left = {n: job for n, job in node.jobs.items() if not (job.done() or job.cancel_asked)}
                ended, node.jobs = [n for n in node.jobs if n not in left], left
                node.ask(Kind.LEAVE, 0, ended)
            self._step = self._await_leave

    def _await_leave(self) -> None:
        if any(node.awaited for node in self._living()):
            return
        self._step = lambda: None
        answered = {number: node.jobs for number, node in self._nodes.items() if not node.awaited}
        self.left.set_result(answered)

    def _hear(self, pool: NodeWorkers, message: Message) -> None:
        node = self._nodes.get(pool.node)
        if node is None or message.kind not in {Kind.KEEP, Kind.DETACH, Kind.LEAVE}:
            return
        node.awaited -= 1
        if message.value is not None and self.pauses:
            self._fail(ConfigurationError(f"node {pool.node} ({pool.host}): {message.value}"))

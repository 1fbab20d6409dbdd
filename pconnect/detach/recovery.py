"""The client's side of ``pconnect(recover=token)``: jobs of a detached network become futures here.

This client tells the server of each result that arrives, before its future gets it; if several clients recover at
once, the first to tell has the result. It takes none before all servers have answered: if the recovery fails, all
results are still there for the next one.
"""

import concurrent.futures
from collections.abc import Callable
from typing import Any

from pconnect.detach.token import Token
from pconnect.errors import ConfigurationError, ConnectionLostError, JobLostError
from pconnect.executors.executor import scheduler_of
from pconnect.jobs.job import Job, JobOptions
from pconnect.jobs.outcome import settle
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.session.client_mesh import ClientMesh
from srp_tools.steps import remaining


class Recovering:
    """The jobs of one detached network; an extension of the scheduler.

    `token`: what `detach` has returned. `call`: has something done in the scheduler's thread. `jobs`: by number;
    complete when `ready` has ended.
    """

    def __init__(self, token: Token, call: Callable[[Callable[[], object]], None]) -> None:
        self.jobs: dict[int, Job] = {}
        self.ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.pauses = False
        self._token = token
        self._call = call
        self._answers: dict[int, str | None] = {}  # by node, why there is nothing
        self._asked: set[int] = set()
        self._arrived: dict[int, Any] = {}

    def begin(
        self,
        nodes: dict[int, NodeWorkers],
        event_loop: EventLoop,
        open_jobs: set[Job],
        allowed: Callable[[Job], set[int]],  # noqa: ARG002 - these jobs are where they are
    ) -> None:
        """Begin; see `pconnect.scheduler.scheduler.Extension`."""
        self._nodes = {number: nodes[number] for number in self._token.jobs}
        self._event_loop, self._open = event_loop, open_jobs
        for node in self._nodes.values():
            node.on_kept = self._hear

    def step(self) -> None:
        """Ask the nodes that are there, and give up those that are lost."""
        token = self._token
        for number, node in self._nodes.items():
            if node.is_lost:
                self._answers.setdefault(number, node.gone)
                self._give_up(number, node.gone)
            elif node.channel is not None and number not in self._asked:
                self._asked.add(number)
                node.channel.post(Kind.RECOVER, 0, [token.network_id, number, token.secret])
                self._event_loop.flush(node.channel)
        if not self.ready.done() and len(self._answers) == len(self._nodes):
            self._end_answers()

    def end(self, reason: str) -> None:
        """Fail what has not ended; the scheduler, whose thread ends, fails the jobs."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionLostError(f"nothing was recovered: {reason}"))

    # --- for its jobs, whose `pconnect.jobs.job.Owner` this is ---

    def drop(self, job: Job) -> None:
        """All of them were sent, so none is taken from a queue here."""
        raise AssertionError(f"{job!r} was not sent")

    def stop(self, job: Job, grace: float) -> None:
        """Have the session that runs a job interrupt it, and kill its worker if that does not help."""
        self._call(lambda: self._send_stop(job, grace))

    def attend(self, job: Job, deadline: float) -> None:
        """Leave it to the thread that looks after jobs: how long this takes does not matter."""

    def call_back(self, function: Callable[[], object]) -> None:
        """Call a function of the user."""
        function()

    def _send_stop(self, job: Job, grace: float) -> None:
        assert job.node is not None  # noqa: S101 - it has one from the beginning
        channel = self._nodes[job.node].channel
        if channel is not None and not job.done():
            channel.post(Kind.STOP, 0, [job.number, grace])
            self._event_loop.flush(channel)

    # --- in the scheduler's thread ---

    def _end_answers(self) -> None:
        """Let the jobs of a node that has nothing fail, unless there is nothing at all."""
        reasons = {node: reason for node, reason in self._answers.items() if reason}
        if len(reasons) == len(self._nodes):
            texts = [f"{self._nodes[number]}: {reason}" for number, reason in reasons.items()]
            self.ready.set_exception(ConfigurationError("; ".join(["nothing can be recovered", *texts])))
            return
        for node, reason in reasons.items():
            for number in self._token.jobs[node]:
                self._add(node, number, "a job")
            self._give_up(node, reason)
        self.jobs = dict(sorted(self.jobs.items()))
        self.ready.set_result(None)
        for number in self._arrived:
            self._take(number)

    def _take(self, number: int) -> None:
        """Tell the server that a result has arrived."""
        node = self.jobs[number].node
        assert node is not None  # noqa: S101 - it has one from the beginning
        channel = self._nodes[node].channel
        if channel is not None:
            channel.post(Kind.TAKE, number)
            self._event_loop.flush(channel)

    def _give_up(self, node: int, reason: str) -> None:
        for job in [job for job in self.jobs.values() if job.node == node and not job.done()]:
            self._open.discard(job)
            job.fail(JobLostError(f"{job.name} has no result: node {node} ({job.host}): {reason}"))

    def _add(self, node: int, number: int, name: str, limit: float | None = None, grace: float = 0.0) -> None:
        options = JobOptions(time_limit=limit, grace=grace, allow_pickle=number in self._token.pickled)
        job = self.jobs[number] = Job(number, name, (), options, self)
        job.place = node, self._nodes[node].host
        job.begin()
        self._open.add(job)

    def _hear(self, node: NodeWorkers, message: Message) -> None:
        number, value = message.tag, message.value
        job = self.jobs.get(number)
        match message.kind:
            case Kind.RECOVER if isinstance(value, str):
                self._answers[node.number] = value
            case Kind.RECOVER:
                for number, *facts in value:
                    self._add(node.number, number, *facts)
                self._answers[node.number] = None
            case Kind.RESULT if job is not None and node.channel is not None:
                self._arrived[number] = value
                if self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None:
                    self._take(number)
            case Kind.TAKE if job is not None and not job.done():
                self._open.discard(job)
                result = self._arrived.pop(number, None)
                if value:
                    settle(job, result)
                else:
                    job.fail(JobLostError(f"{job.name} has no result here: another client has recovered it"))


def recover(mesh: ClientMesh, token: Token, deadline: float) -> dict[int, Job]:
    """Return the jobs of a detached network; `mesh` has nodes of the same servers in the same order.

    Raises `ConfigurationError` if no server has anything of it for us; the text has the reason of each. Raises
    `TimeoutError` if not all have answered.
    """
    scheduler = scheduler_of(mesh)
    recovering = Recovering(token, scheduler.call)
    scheduler.extend(recovering)
    try:
        recovering.ready.result(remaining(deadline))
    except concurrent.futures.TimeoutError:
        if not recovering.ready.cancel():
            raise
        raise TimeoutError("the servers have not said in time what is kept of the detached network") from None
    return recovering.jobs

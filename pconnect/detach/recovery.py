"""The client's side of ``pconnect(recover=token)``: jobs of a detached network become futures here.

The client claims each result that arrives, before its future gets it; if several clients recover at the same time, the
first to claim a result gets it. The client claims none before all servers have answered: if the recovery fails, all
results remain available for the next attempt.
"""

import concurrent.futures
from collections.abc import Callable, Mapping
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
from srp_tools.steps import describe_seconds, remaining


class Recovering:
    """The jobs of one detached network; an extension of the scheduler.

    `token`: from `detach`. `call`: calls a function in the scheduler's thread. `places`: the number in the token of
    each node here. `jobs`: by number; complete when `ready` is done.
    """

    def __init__(
        self, token: Token, call: Callable[[Callable[[], object]], None], places: Mapping[int, int]
    ) -> None:
        self.jobs: dict[int, Job] = {}
        self.ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.pauses = False
        self._token = token
        self._places = {node: place for node, place in places.items() if place in token.jobs}
        #: The job numbers for each server, by name and port, that has no node here.
        self._missing = {
            token.hosts[place - 1]: numbers
            for place, numbers in token.jobs.items()
            if place not in places.values()
        }
        self._call = call
        self._nodes: dict[int, NodeWorkers] = {}
        self._answers: dict[int, str | None] = {}  # by node, why it has no jobs; ``None`` if it has some
        self._asked: set[int] = set()
        self._arrived: dict[int, Any] = {}

    def begin(
        self,
        nodes: dict[int, NodeWorkers],
        event_loop: EventLoop,
        open_jobs: set[Job],
        allowed: Callable[[Job], set[int]],  # noqa: ARG002 - these jobs have their nodes already
    ) -> None:
        """Start recovering; see `pconnect.scheduler.scheduler.Extension`."""
        self._nodes = {number: nodes[number] for number in self._places}
        self._event_loop, self._open = event_loop, open_jobs
        for node in self._nodes.values():
            node.on_kept = self._on_message

    def step(self) -> None:
        """Ask the nodes that are available, and give up lost ones."""
        token = self._token
        for number, node in self._nodes.items():
            if node.is_lost or (node.gone and node.channel is None):
                self._answers.setdefault(number, node.gone)
                self._give_up(number, node.gone)
            elif node.channel is not None and number not in self._asked and number not in self._answers:
                self._asked.add(number)
                node.channel.post(Kind.RECOVER, 0, [token.network_id, self._places[number], token.secret])
                self._event_loop.flush(node.channel)
        if not self.ready.done() and len(self._answers) == len(self._nodes):
            self._end_answers()

    def end(self, reason: str) -> None:
        """Fail `ready` if it is not done; the scheduler itself fails the jobs."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionLostError(f"nothing was recovered: {reason}"))

    def unanswered(self) -> str:
        """Return the nodes that have not answered, as text."""
        silent = [str(node) for number, node in self._nodes.items() if number not in self._answers]
        return ", ".join(silent) or "any server"  # if no node was asked yet

    # --- for the jobs; these are the methods of `pconnect.jobs.job.Owner` ---

    def drop(self, job: Job) -> None:
        """Fail: all of these jobs were sent, so none is in a queue."""
        raise AssertionError(f"{job!r} was not sent")

    def stop(self, job: Job, grace: float) -> None:
        """Make the session that runs a job interrupt it, and kill its worker if the job does not end in time."""
        self._call(lambda: self._send_stop(job, grace))

    def attend(self, job: Job, deadline: float) -> None:
        """Do nothing: the scheduler's thread receives the results, and the delay does not matter."""

    def call_back(self, function: Callable[[], object]) -> None:
        """Call a user's function."""
        function()

    def show(self, job: Job, stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        """Show nothing: the job printed this without a client, perhaps days ago, and has it in its attributes."""

    def fetch(self, job: Job, error: Exception, timeout: float | None) -> Any:  # noqa: ARG002
        """Raise the error: nothing is kept for a client that has left."""
        raise error

    def why(self, job: Job) -> str:  # noqa: ARG002 - the same for all jobs
        """Return a general reason, because the server does not report more about its jobs."""
        return "its server keeps it and has reported no result yet"

    def _send_stop(self, job: Job, grace: float) -> None:
        assert job.node is not None  # noqa: S101 - set when the job was created
        channel = self._nodes[job.node].channel
        if channel is not None and not job.done():
            channel.post(Kind.STOP, 0, [job.number, grace])
            self._event_loop.flush(channel)

    # --- in the scheduler's thread ---

    def _end_answers(self) -> None:
        """Fail the jobs of nodes that keep nothing; fail the recovery if no node keeps any job."""
        reasons = {node: reason for node, reason in self._answers.items() if reason}
        if len(reasons) == len(self._nodes):
            texts = [f"{self._nodes[number]}: {reason}" for number, reason in reasons.items()]
            texts += [f"{_server(host)}: it is missing" for host in self._missing]
            self.ready.set_exception(ConfigurationError("; ".join(["nothing can be recovered", *texts])))
            return
        for node, reason in reasons.items():
            for number in self._token.jobs[self._places[node]]:
                self._add(node, number, "a job")
            self._give_up(node, reason)
        for host, numbers in self._missing.items():
            advice = "when it is back, recover the result with the same token"
            for number in numbers:
                text = (
                    f"job {number} is kept on {_server(host)}, which is missing (see net.missing): {advice}"
                )
                self._new(number, "a job").fail(ConnectionLostError(text))
        self.jobs = dict(sorted(self.jobs.items()))
        self.ready.set_result(None)
        for number in self._arrived:
            self._claim(number)

    def _claim(self, number: int) -> None:
        """Claim a result that has arrived."""
        node = self.jobs[number].node
        assert node is not None  # noqa: S101 - set when the job was created
        channel = self._nodes[node].channel
        if channel is not None:
            channel.post(Kind.TAKE, number)
            self._event_loop.flush(channel)

    def _give_up(self, node: int, reason: str) -> None:
        for job in [job for job in self.jobs.values() if job.node == node and not job.done()]:
            self._open.discard(job)
            job.fail(JobLostError(f"{job.name} has no result: node {node} ({job.host}): {reason}"))

    def _add(self, node: int, number: int, name: str, limit: float | None = None, grace: float = 0.0) -> None:
        job = self._new(number, name, limit, grace)
        job.place = node, self._nodes[node].server.host
        job.begin()
        self._open.add(job)

    def _new(self, number: int, name: str, limit: float | None = None, grace: float = 0.0) -> Job:
        options = JobOptions(time_limit=limit, grace=grace, allow_pickle=number in self._token.pickled)
        job = self.jobs[number] = Job(number, name, (), options, self)
        return job

    def _on_message(self, node: NodeWorkers, message: Message) -> None:
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
                    self._claim(number)
            case Kind.TAKE if job is not None and not job.done():
                self._open.discard(job)
                result = self._arrived.pop(number, None)
                if value:
                    settle(job, result)
                else:
                    job.fail(JobLostError(f"{job.name} has no result here: another client has recovered it"))


def _server(host: tuple[str, int] | tuple[str, int, int]) -> str:
    name, *ports = host
    return ":".join([name, *map(str, ports)]) if any(ports) else name


def recover(mesh: ClientMesh, token: Token, deadline: float, places: Mapping[int, int]) -> dict[int, Job]:
    """Return the jobs of a detached network.

    `mesh` has nodes of the same servers in the same order, without missing ones; `places` holds the number in the token
    of each node. The jobs of missing nodes fail immediately.

    Raises `ConfigurationError` with the reason of each server if none keeps any of these jobs for this user. Raises
    `TimeoutError` if a server has not answered in time.
    """
    scheduler = scheduler_of(mesh)
    recovering = Recovering(token, scheduler.call, places)
    scheduler.extend(recovering)
    patience = remaining(deadline)
    try:
        recovering.ready.result(patience)
    except concurrent.futures.TimeoutError:
        if not recovering.ready.cancel():
            raise
        raise TimeoutError(
            f"timed out after {describe_seconds(patience or 0.0)} waiting for the list of kept jobs from "
            f"{recovering.unanswered()}"
        ) from None
    return recovering.jobs

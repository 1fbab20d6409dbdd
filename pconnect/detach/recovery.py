"""The client's side of ``pconnect(recover=token)``: jobs of a detached network become futures here.

This client tells the server of each result that arrives, before its future gets it; if several clients recover at
once, the first to tell has the result. It takes none before all servers have answered: if the recovery fails, all
results are still there for the next one.
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
from srp_tools.steps import remaining


class Recovering:
    """The jobs of one detached network; an extension of the scheduler.

    `token`: what `detach` has returned. `call`: has something done in the scheduler's thread. `places`: for each node
    here its number in the token. `jobs`: by number; complete when `ready` has ended.
    """

    def __init__(
        self, token: Token, call: Callable[[Callable[[], object]], None], places: Mapping[int, int]
    ) -> None:
        self.jobs: dict[int, Job] = {}
        self.ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.pauses = False
        self._token = token
        self._places = {node: place for node, place in places.items() if place in token.jobs}
        #: The numbers of the jobs at each server, by name and port, to which no node here belongs.
        self._missing = {
            token.hosts[place - 1]: numbers
            for place, numbers in token.jobs.items()
            if place not in places.values()
        }
        self._call = call
        self._nodes: dict[int, NodeWorkers] = {}
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
        self._nodes = {number: nodes[number] for number in self._places}
        self._event_loop, self._open = event_loop, open_jobs
        for node in self._nodes.values():
            node.on_kept = self._hear

    def step(self) -> None:
        """Ask the nodes that are there, and give up those that are lost."""
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
        """Fail what has not ended; the scheduler, whose thread ends, fails the jobs."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionLostError(f"nothing was recovered: {reason}"))

    def unanswered(self) -> str:
        """Return which nodes have not answered."""
        silent = [str(node) for number, node in self._nodes.items() if number not in self._answers]
        return ", ".join(silent) or "any server"  # if nothing was asked yet

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

    def show(self, job: Job, stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        """Show nothing: it was printed when nobody was there, perhaps days ago; the job has it."""

    def fetch(self, job: Job, error: Exception, timeout: float | None) -> Any:  # noqa: ARG002
        """Raise the error: nothing is kept for a client that has left."""
        raise error

    def why(self, job: Job) -> str:  # noqa: ARG002 - it is the same for all
        """Return the same for all: the session of the server has them, and has not said more."""
        return "it was left to the server, which has not said more"

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
            texts += [f"{_server(host)}: it is missing" for host in self._missing]
            self.ready.set_exception(ConfigurationError("; ".join(["nothing can be recovered", *texts])))
            return
        for node, reason in reasons.items():
            for number in self._token.jobs[self._places[node]]:
                self._add(node, number, "a job")
            self._give_up(node, reason)
        for host, numbers in self._missing.items():
            advice = "when it is there again, recover its result with the same token"
            for number in numbers:
                text = (
                    f"job {number} is kept at {_server(host)}, which is missing (see net.missing): {advice}"
                )
                self._new(number, "a job").fail(ConnectionLostError(text))
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
        job = self._new(number, name, limit, grace)
        job.place = node, self._nodes[node].server.host
        job.begin()
        self._open.add(job)

    def _new(self, number: int, name: str, limit: float | None = None, grace: float = 0.0) -> Job:
        options = JobOptions(time_limit=limit, grace=grace, allow_pickle=number in self._token.pickled)
        job = self.jobs[number] = Job(number, name, (), options, self)
        return job

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


def _server(host: tuple[str, int] | tuple[str, int, int]) -> str:
    name, *ports = host
    return ":".join([name, *map(str, ports)]) if any(ports) else name


def recover(mesh: ClientMesh, token: Token, deadline: float, places: Mapping[int, int]) -> dict[int, Job]:
    """Return the jobs of a detached network.

    `mesh` has nodes of the same servers in the same order, without those that are missing; `places` has for each of its
    nodes the number in the token. The jobs of missing nodes fail at once.

    Raises `ConfigurationError` if no server has anything of it for us; the text has the reason of each. Raises
    `TimeoutError` if not all have answered.
    """
    scheduler = scheduler_of(mesh)
    recovering = Recovering(token, scheduler.call, places)
    scheduler.extend(recovering)
    try:
        recovering.ready.result(remaining(deadline))
    except concurrent.futures.TimeoutError:
        if not recovering.ready.cancel():
            raise
        raise TimeoutError(
            f"no answer in time to what is kept of the detached network, from {recovering.unanswered()}"
        ) from None
    return recovering.jobs

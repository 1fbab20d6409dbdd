"""All workers of a network: connects to them, and processes their messages. For the scheduler's thread."""

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from pconnect.commands.captured_output import with_last_words
from pconnect.errors import ConnectionLostError
from pconnect.jobs.job import Job
from pconnect.jobs.outcome import is_dropped, settle, take_output
from pconnect.link.certificate_renewal import CertificateRenewal
from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.answer_forms import check_answer
from pconnect.protocol.frames import JOB_CHANNEL
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pconnect.scheduler.healing import JobOwner, is_over
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.scheduler.remote_worker import RemoteWorker
from pconnect.session.mesh_setup import MeshSetup
from pconnect.session.server import Server
from srp_tools.channel import Channel
from srp_tools.printable import printable_text
from srp_tools.steps import Steps, deadline_after, pause

log = logging.getLogger("pconnect")

_DIAL_TIMEOUT = 30.0  # a worker waits equally long for its connection
_LOOK_SECONDS = 0.02  # between checks whether workers have ended
_LAST_SECONDS = 5.0  # for receiving what a worker had sent before it ended
_MAX_SUSPICIONS = 3  # a job that was next on this many dying workers is assumed to be the cause


class WorkerManager:
    """The workers of all nodes.

    `event_loop`: of the scheduler's thread. `owner`: decides what happens to jobs.

    `nodes`: the nodes by number.
    """

    def __init__(
        self, servers: Iterable[Server], mesh_setup: MeshSetup, event_loop: EventLoop, owner: JobOwner
    ) -> None:
        self.nodes = {server.node: NodeWorkers(server) for server in servers}
        self._mesh_setup = mesh_setup
        self._event_loop = event_loop
        self._owner = owner
        self.heard = threading.Event()  #: set when every server has reported its slots, or is gone
        #: Called when a node is lost, with the instant and its jobs; returns whether it keeps the jobs.
        self.on_lost: Callable[[NodeWorkers, float, Sequence[Job]], bool] = lambda *_: False
        #: Called with the number of a node whose session has begun, has ended, or is forgotten.
        self.on_change: Callable[[int], object] = lambda _: None
        #: Called with a server's answer to a question about its state.
        self.on_statistics: Callable[[NodeWorkers, dict[str, Any]], object] = lambda *_: None
        if mesh_setup.authority is not None and mesh_setup.tls is not None:
            # Jobs may run for months while the user's thread does nothing with the network.
            renewal = CertificateRenewal(mesh_setup.authority, mesh_setup.tls, self._job_channels)
            event_loop.before_poll = renewal.look

    def begin(self) -> None:
        """Connect to all nodes."""
        for node in self.nodes.values():
            self.attend(node)

    def attend(self, node: NodeWorkers, channel: Channel | None = None) -> None:
        """Connect to a node, or use an open channel."""
        if channel is None:
            self._dial_node(node)
        else:
            self._open_node(node, channel)

    def add(self, servers: Iterable[Server]) -> None:
        """Connect to further nodes, or to new sessions of known nodes."""
        for server in servers:
            node = self.nodes.get(server.node)
            if node is None:
                node = self.nodes[server.node] = NodeWorkers(server)
            else:
                self.empty_nodes([server.node], "got a new session")
                node.revive(server)
            self.attend(node)

    def retire_nodes(
        self, numbers: Collection[int], deadline: float, *, returns: bool = False
    ) -> Steps[None]:
        """Begin no more jobs on some nodes; return when their workers have ended, or at the deadline.

        `returns`: whether the nodes are to get another session.
        """
        nodes = [self.nodes[number] for number in numbers if number in self.nodes]
        for node in nodes:
            node.leave(returns=returns)
        while any(node.workers and node.is_heard for node in nodes) and time.monotonic() < deadline:
            for node in nodes:
                for worker in node.workers.values():  # some may have started only now
                    self.retire(worker)
            yield from pause(_LOOK_SECONDS)

    def empty_nodes(self, numbers: Collection[int], why: str, *, away: bool = False) -> None:
        """Leave sessions that have ended or are unreachable; their jobs may have begun, so they are lost."""
        for node in [self.nodes[number] for number in numbers if number in self.nodes]:
            for worker in list(node.workers.values()):
                self._forget(node, worker)
                for job in reversed(worker.jobs.values()):
                    self._owner.lose(job, f"{node} {why} before the job ended", away=away)
            if node.channel is not None:
                self._event_loop.discard(node.channel)
            self.on_change(node.number)

    def forget_nodes(self, numbers: Collection[int], why: str) -> None:
        """Call `empty_nodes`, and forget the nodes."""
        self.empty_nodes(numbers, why)
        for number in numbers:
            self.nodes.pop(number, None)

    def workers(self) -> list[RemoteWorker]:
        """Return all workers of all nodes."""
        return [worker for node in self.nodes.values() for worker in list(node.workers.values())]

    def note_heard(self) -> None:
        """Set `heard` if every server has reported its slots, or is gone."""
        if not self.heard.is_set() and all(node.has_answered for node in self.nodes.values()):
            self.heard.set()

    def count_slots(self, numbers: Collection[int]) -> int:
        """Return the total number of slots of the servers of some nodes; a server of two nodes counts once."""
        nodes = [node for node in self.nodes.values() if node.number in numbers and not node.gone]
        servers = {node.place: node.slots or 0 for node in nodes}
        return sum(servers.values())

    def _job_channels(self) -> dict[int, Connection]:
        return {number: node.channel for number, node in self.nodes.items() if node.channel is not None}

    def flush(self) -> None:
        """Send pending data of the job channels."""
        for node in self.nodes.values():
            if node.channel is not None and node.channel.has_unsent:
                self._event_loop.flush(node.channel)

    # --- nodes ---

    def _dial_node(self, node: NodeWorkers) -> None:
        server = node.server

        def end(outcome: Channel | Exception) -> None:
            # The node was removed in the meantime, or has another session.
            if self.nodes.get(node.number) is not node or node.server is not server:
                if isinstance(outcome, Channel):
                    outcome.close()
            elif isinstance(outcome, Channel):
                self._open_node(node, outcome)
            else:
                over = is_over(node.server)
                hint = f"no connection for jobs: {outcome}; if its server was killed, start it again with the same name"
                why = node.server.trouble + node.remedy if over else hint
                node.lose(why)
                self.on_lost(node, -math.inf if over else time.monotonic(), ())

        self._dial(node, JOB_CHANNEL, end, patience=0.0)

    def _open_node(self, node: NodeWorkers, channel: Channel) -> None:
        self.on_change(node.number)
        self._event_loop.add(
            node.open(
                channel,
                lambda message: self._on_supervisor_message(node, message),
                lambda _: self._lose(node),
            )
        )

    def _dial(
        self,
        node: NodeWorkers,
        endpoint: int,
        end: Callable[[Channel | Exception], None],
        *,
        patience: float = _DIAL_TIMEOUT,
    ) -> None:
        """Open a data connection. If the daemon was killed, wait for its restart: its sessions are still running."""
        patience = 0.0 if is_over(node.server) else patience
        steps = self._mesh_setup.dial(node.server, endpoint, patience=patience)
        self._event_loop.background.start(steps, deadline_after(_DIAL_TIMEOUT), end)

    def retire(self, worker: RemoteWorker) -> None:
        """Let a worker complete its current job, begin no others, and exit."""
        worker.retire()
        self._event_loop.flush(worker.connection)

    def send(self, worker: RemoteWorker, jobs: Iterable[Job]) -> None:
        """Send jobs to a worker."""
        worker.send(jobs)
        self._event_loop.flush(worker.connection)

    def connection_of(self, job: Job) -> Connection | None:
        """Return the connection for the result of a job; ``None`` if no worker has it."""
        node = self.nodes.get(job.node or 0)
        workers = list(node.workers.values()) if node else ()  # copied, because any thread may call this
        return next((worker.connection for worker in workers if job.number in worker.jobs), None)

    def tell(self, job: Job, kind: Kind, value: object) -> None:
        """Send a message to a running job, if a worker has it."""
        connection = self.connection_of(job)
        if connection is not None:
            connection.post(kind, job.number, value)
            self._event_loop.flush(connection)

    def stop(self, job: Job, grace: float) -> bool:
        """Ask the worker to drop a job, and its supervisor to interrupt it; return whether a worker has the job."""
        node = self.nodes.get(job.node or 0)
        workers = [worker for worker in node.workers.values() if job.number in worker.jobs] if node else []
        if not workers or node is None or node.channel is None or not node.is_heard:
            return False
        workers[0].connection.post(Kind.DROP, job.number)
        self._event_loop.flush(workers[0].connection)
        node.channel.post(Kind.STOP, workers[0].number, [job.number, grace])
        self._event_loop.flush(node.channel)
        return True

    def _lose(self, node: NodeWorkers) -> None:
        """Give up a node whose server or machine is gone."""
        assert node.channel is not None  # noqa: S101 - its loss is the reason for this call
        self.on_change(node.number)
        error = node.channel.error
        ending = f"its session was ended: {node.ending}"
        node.lose((ending if node.ending else f"it is lost: {error}") + node.remedy)
        if node.is_leaving:
            return  # `forget_nodes` handles its jobs
        why = (f"{node}: {ending}" if node.ending else f"{node} is lost: {error}") + node.remedy
        jobs: list[Job] = []
        for worker in list(node.workers.values()):
            self._forget(node, worker)
            jobs += worker.jobs.values()
        if not self.on_lost(node, time.monotonic(), jobs):
            for job in jobs:
                self._owner.lose(job, why)

    def _forget(self, node: NodeWorkers, worker: RemoteWorker) -> None:
        """Receive what a worker has sent, and close its connection."""
        del node.workers[worker.number]
        self._event_loop.drain(worker.connection)
        self._event_loop.discard(worker.connection)

    def _on_supervisor_message(self, node: NodeWorkers, message: Message) -> None:
        """Process a message of a supervisor."""
        check_answer(message.kind, message.value)
        worker = node.workers.get(message.tag)
        match message.kind:
            case Kind.STOPPING:
                node.ending = printable_text(message.value)
            case Kind.POOL | Kind.STATISTICS:
                self._take_facts(node, message)
            case Kind.WORKER if isinstance(message.value, str):
                node.refuse(time.monotonic())
                log.warning("%s: %s", node, printable_text(message.value))
            case Kind.WORKER if "never" in message.value:
                node.disable(printable_text(message.value["never"]))
            case Kind.WORKER:
                self._on_worker_start(node, message.tag, message.value)
            case Kind.KEEP | Kind.LIMIT | Kind.DETACH | Kind.LEAVE | Kind.RECOVER | Kind.TAKE | Kind.RESULT:
                node.on_kept(node, message)
            case Kind.PRINTED if worker is not None:
                self._show(worker, *message.value)
            case Kind.YIELD if worker is not None:
                self.retire(worker)
            case Kind.RUNNING if worker is not None and message.value[0] in worker.jobs:
                worker.mark_long(*message.value)
                self._recall(node, worker)
            case Kind.RECALL if worker is not None:
                self._take_back(node, worker, *message.value)
            case Kind.ENDED:
                self._on_end_message(node, worker, message)

    def _take_facts(self, node: NodeWorkers, message: Message) -> None:
        if message.kind is Kind.POOL:
            node.take_facts(message.value)
        else:
            self.on_statistics(node, message.value)

    # --- workers ---

    def _on_worker_start(self, node: NodeWorkers, number: int, facts: dict[str, Any]) -> None:
        worker = RemoteWorker(node.server, number, facts["pid"], facts["command"], self._mesh_setup.limits)
        node.add(worker)

        def end(outcome: Channel | Exception) -> None:
            if node.workers.get(number) is not worker:
                if isinstance(outcome, Channel):
                    outcome.close()
                return
            if not isinstance(outcome, Channel):
                worker.connection.lose(
                    ConnectionLostError(str(outcome))
                )  # the server will send ENDED as well
                return
            worker.open(outcome)
            worker.connection.on_message = lambda message: self._on_worker_message(worker, message)
            self._event_loop.add(worker.connection)
            self._event_loop.flush(worker.connection)

        self._dial(node, number, end)

    def _on_worker_message(self, worker: RemoteWorker, message: Message) -> None:
        job = worker.jobs.get(message.tag)
        if job is None:
            return  # a duplicate from a worker that died after sending it
        if message.kind is not Kind.RESULT:
            check_answer(message.kind, message.value)
            job.hear(message)
            return
        self._owner.ended(job)
        if is_dropped(message.value):
            worker.forget(job)
            job.fail(KeyboardInterrupt())
            return
        worker.take(job, settle(job, message.value))
        if worker.retiring:
            self._event_loop.flush(worker.connection)

    def _on_end_message(self, node: NodeWorkers, worker: RemoteWorker | None, message: Message) -> None:
        """Process the end of a worker, or results that a worker could not send before a long job."""
        told = message.value
        if worker is not None:
            self._on_worker_exit(node, worker, told)
        for busy in list(node.workers.values()) if not message.tag else ():
            if told["job"] in busy.jobs:
                for result in busy.decode(told["results"]):  # the worker sends them again later
                    self._on_worker_message(busy, result)

    def _recall(self, node: NodeWorkers, worker: RemoteWorker) -> None:
        """Request the jobs behind a long one; see `pserver.jobs.recall`."""
        number = worker.begin_recall()
        if not number:
            return
        self._event_loop.flush(worker.connection)
        assert node.channel is not None  # noqa: S101 - a message has just arrived on it
        node.channel.post(Kind.RECALL, worker.number, number)
        self._event_loop.flush(node.channel)

    def _show(self, worker: RemoteWorker, number: int, stream: int, start: int, data: bytes) -> None:
        """Show output of a running job."""
        if (job := worker.jobs.get(number)) is not None:
            self._owner.show(job, stream, start, data, is_last=False)

    def _take_back(self, node: NodeWorkers, worker: RemoteWorker, number: int, runs_still: bool) -> None:
        """Give the jobs behind a long one to other workers, unless the worker has begun them already."""
        for job in worker.end_recall(number, runs_still=runs_still):
            self._owner.requeue(job)
        if not runs_still:
            self._recall(node, worker)  # the next job is long as well

    def _on_worker_exit(self, node: NodeWorkers, worker: RemoteWorker, told: dict[str, Any]) -> None:
        """Receive what a worker sent before it ended: its connection may be slower than the job channel."""
        self._event_loop.drain(worker.connection)
        told = told | {"retiring": worker.retiring}
        if not worker.may_have_more:
            self._finish_exit(node, worker, told)
            return
        worker.retiring = True
        deadline = time.monotonic() + _LAST_SECONDS

        def wait() -> Steps[None]:
            while worker.may_have_more and time.monotonic() < deadline:
                yield from pause(_LOOK_SECONDS)

        self._event_loop.background.start(wait(), math.inf, lambda _: self._finish_exit(node, worker, told))

    def _finish_exit(self, node: NodeWorkers, worker: RemoteWorker, told: dict[str, Any]) -> None:
        if node.workers.get(worker.number) is not worker:
            return  # the node was lost in the meantime
        is_unknown = worker.may_have_more
        self._forget(node, worker)
        for message in worker.decode(told["results"]):
            self._on_worker_message(worker, message)
        jobs = list(worker.jobs.values())
        running = worker.jobs.get(told["job"])
        if running is None and jobs and not told["retiring"] and not node.gone and not is_unknown:
            jobs[0].suspicions += 1  # the job may have killed the worker while it was being received
            if jobs[0].suspicions >= _MAX_SUSPICIONS:
                running = jobs[0]
        if running is not None:
            jobs.remove(running)
            running.duration = told["seconds"]
            take_output(running, *told["outputs"])
        for job in reversed(jobs):
            if is_unknown:
                self._owner.lose(
                    job, f"its worker on {node} died: {told['how']}; it is unknown whether the job had run"
                )
            else:
                self._owner.requeue(job)
        if running is not None:
            words = f"its worker on {node} died: {told['how']}"
            self._owner.lose(running, with_last_words(words, running.stdout + running.stderr))

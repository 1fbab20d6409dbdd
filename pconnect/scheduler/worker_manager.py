"""All the workers of a network: connecting to them, and what they and their servers say. In the scheduler's thread."""

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

_DIAL_TIMEOUT = 30.0  # a worker waits as long for its connection
_LOOK_SECONDS = 0.02  # between two looks whether workers have ended
_LAST_SECONDS = 5.0  # for what a worker had sent before it ended
_MAX_SUSPICIONS = 3  # so often a worker may die before it has begun a job that it was to run next


class WorkerManager:
    """The workers of all nodes.

    `event_loop`: of the scheduler's thread. `owner`: decides what becomes of jobs.

    `nodes`: by number.
    """

    def __init__(
        self, servers: Iterable[Server], mesh_setup: MeshSetup, event_loop: EventLoop, owner: JobOwner
    ) -> None:
        self.nodes = {server.node: NodeWorkers(server) for server in servers}
        self._mesh_setup = mesh_setup
        self._event_loop = event_loop
        self._owner = owner
        self.heard = threading.Event()  #: of all servers how many slots they have, or that they are gone
        #: Called when a node is lost, with the instant and its jobs; returns whether it keeps these.
        self.on_lost: Callable[[NodeWorkers, float, Sequence[Job]], bool] = lambda *_: False
        #: Called with the number of a node whose session has begun, has ended, or is forgotten.
        self.on_change: Callable[[int], object] = lambda _: None
        #: Called with what a server says of itself that was asked for it.
        self.on_statistics: Callable[[NodeWorkers, dict[str, Any]], object] = lambda *_: None
        if mesh_setup.authority is not None and mesh_setup.tls is not None:
            # Jobs may go on for months while the user's thread does nothing with the network.
            renewal = CertificateRenewal(mesh_setup.authority, mesh_setup.tls, self._job_channels)
            event_loop.before_poll = renewal.look

    def begin(self) -> None:
        """Connect to all nodes."""
        for node in self.nodes.values():
            self.attend(node)

    def attend(self, node: NodeWorkers, channel: Channel | None = None) -> None:
        """Connect to a node, on a channel if there is one already."""
        if channel is None:
            self._dial_node(node)
        else:
            self._open_node(node, channel)

    def add(self, servers: Iterable[Server]) -> None:
        """Connect to further nodes, or to the new sessions of some that are there."""
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
        """Have nothing more begin at some nodes; return when their workers have ended, or at a deadline.

        `returns`: whether they are to have another session.
        """
        nodes = [self.nodes[number] for number in numbers if number in self.nodes]
        for node in nodes:
            node.leave(returns=returns)
        while any(node.workers and node.is_heard for node in nodes) and time.monotonic() < deadline:
            for node in nodes:
                for worker in node.workers.values():  # some may come only now
                    self.retire(worker)
            yield from pause(_LOOK_SECONDS)

    def empty_nodes(self, numbers: Collection[int], why: str, *, away: bool = False) -> None:
        """Leave sessions that have ended, or cannot be asked; their jobs may have begun, so they are lost."""
        for node in [self.nodes[number] for number in numbers if number in self.nodes]:
            for worker in list(node.workers.values()):
                self._forget(node, worker)
                for job in reversed(worker.jobs.values()):
                    self._owner.lose(job, f"{node} {why} before it had ended", away=away)
            if node.channel is not None:
                self._event_loop.discard(node.channel)
            self.on_change(node.number)

    def forget_nodes(self, numbers: Collection[int], why: str) -> None:
        """Do so, and forget the nodes."""
        self.empty_nodes(numbers, why)
        for number in numbers:
            self.nodes.pop(number, None)

    def workers(self) -> list[RemoteWorker]:
        """Return all workers of all nodes."""
        return [worker for node in self.nodes.values() for worker in list(node.workers.values())]

    def note_heard(self) -> None:
        """Record it if all servers have said how many slots they have, or are gone."""
        if not self.heard.is_set() and all(node.has_answered for node in self.nodes.values()):
            self.heard.set()

    def count_slots(self, numbers: Collection[int]) -> int:
        """Return how many slots the servers of some nodes have; two nodes of one server have the same."""
        nodes = [node for node in self.nodes.values() if node.number in numbers and not node.gone]
        servers = {node.place: node.slots or 0 for node in nodes}
        return sum(servers.values())

    def _job_channels(self) -> dict[int, Connection]:
        return {number: node.channel for number, node in self.nodes.items() if node.channel is not None}

    def flush(self) -> None:
        """Send what waits in the job channels."""
        for node in self.nodes.values():
            if node.channel is not None and node.channel.has_unsent:
                self._event_loop.flush(node.channel)

    # --- nodes ---

    def _dial_node(self, node: NodeWorkers) -> None:
        server = node.server

        def end(outcome: Channel | Exception) -> None:
            # It was removed meanwhile, or has another session.
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
            node.open(channel, lambda message: self._hear(node, message), lambda _: self._lose(node))
        )

    def _dial(
        self,
        node: NodeWorkers,
        endpoint: int,
        end: Callable[[Channel | Exception], None],
        *,
        patience: float = _DIAL_TIMEOUT,
    ) -> None:
        """Open a data connection; a daemon that was killed may be started again meanwhile: its sessions live."""
        patience = 0.0 if is_over(node.server) else patience
        steps = self._mesh_setup.dial(node.server, endpoint, patience=patience)
        self._event_loop.background.start(steps, deadline_after(_DIAL_TIMEOUT), end)

    def retire(self, worker: RemoteWorker) -> None:
        """Let a worker end what it does, begin nothing more, and end."""
        worker.retire()
        self._event_loop.flush(worker.connection)

    def send(self, worker: RemoteWorker, jobs: Iterable[Job]) -> None:
        """Send jobs to a worker."""
        worker.send(jobs)
        self._event_loop.flush(worker.connection)

    def connection_of(self, job: Job) -> Connection | None:
        """Return the connection on which the result of a job will come; ``None`` if no worker has it."""
        node = self.nodes.get(job.node or 0)
        workers = list(node.workers.values()) if node else ()  # any thread may ask
        return next((worker.connection for worker in workers if job.number in worker.jobs), None)

    def tell(self, job: Job, kind: Kind, value: object) -> None:
        """Send something to a job that runs, if a worker has it."""
        connection = self.connection_of(job)
        if connection is not None:
            connection.post(kind, job.number, value)
            self._event_loop.flush(connection)

    def stop(self, job: Job, grace: float) -> bool:
        """Tell both the worker, which may not have begun a job, and its supervisor, which can interrupt it.

        Return whether a worker has it.
        """
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
        """Give up a server that is gone, or its machine."""
        assert node.channel is not None  # noqa: S101 - it is what was lost
        self.on_change(node.number)
        error = node.channel.error
        ending = f"its session was ended: {node.ending}"
        node.lose((ending if node.ending else f"it is lost: {error}") + node.remedy)
        if node.is_leaving:
            return  # `forget_nodes` decides on its jobs
        why = (f"{node}: {ending}" if node.ending else f"{node} is lost: {error}") + node.remedy
        jobs: list[Job] = []
        for worker in list(node.workers.values()):
            self._forget(node, worker)
            jobs += worker.jobs.values()
        if not self.on_lost(node, time.monotonic(), jobs):
            for job in jobs:
                self._owner.lose(job, why)

    def _forget(self, node: NodeWorkers, worker: RemoteWorker) -> None:
        """Take in what a worker has sent, and close its connection."""
        del node.workers[worker.number]
        self._event_loop.drain(worker.connection)
        self._event_loop.discard(worker.connection)

    def _hear(self, node: NodeWorkers, message: Message) -> None:
        """Take what a supervisor says."""
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
            case Kind.KEEP | Kind.DETACH | Kind.LEAVE | Kind.RECOVER | Kind.TAKE | Kind.RESULT:
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
                self._hear_end(node, worker, message)

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
                worker.connection.lose(ConnectionLostError(str(outcome)))  # ENDED comes, too
                return
            worker.open(outcome)
            worker.connection.on_message = lambda message: self._take(worker, message)
            self._event_loop.add(worker.connection)
            self._event_loop.flush(worker.connection)

        self._dial(node, number, end)

    def _take(self, worker: RemoteWorker, message: Message) -> None:
        job = worker.jobs.get(message.tag)
        if job is None:
            return  # told twice by one that died after it had sent it
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

    def _hear_end(self, node: NodeWorkers, worker: RemoteWorker | None, message: Message) -> None:
        """Take the end of a worker, or what waits in one that runs a long job: the results of jobs before that."""
        told = message.value
        if worker is not None:
            self._on_worker_exit(node, worker, told)
        for busy in list(node.workers.values()) if not message.tag else ():
            if told["job"] in busy.jobs:
                for result in busy.decode(told["results"]):  # they come once more later
                    self._take(busy, result)

    def _recall(self, node: NodeWorkers, worker: RemoteWorker) -> None:
        """Ask for the jobs behind a long one; see `pserver.jobs.recall`."""
        number = worker.begin_recall()
        if not number:
            return
        self._event_loop.flush(worker.connection)
        assert node.channel is not None  # noqa: S101 - it was just heard
        node.channel.post(Kind.RECALL, worker.number, number)
        self._event_loop.flush(node.channel)

    def _show(self, worker: RemoteWorker, number: int, stream: int, start: int, data: bytes) -> None:
        """Show what a job that still runs has printed."""
        if (job := worker.jobs.get(number)) is not None:
            self._owner.show(job, stream, start, data, is_last=False)

    def _take_back(self, node: NodeWorkers, worker: RemoteWorker, number: int, runs_still: bool) -> None:
        """Have the jobs behind a long one done by others, unless the worker has begun them already."""
        for job in worker.end_recall(number, runs_still=runs_still):
            self._owner.requeue(job)
        if not runs_still:
            self._recall(node, worker)  # the next is long, too

    def _on_worker_exit(self, node: NodeWorkers, worker: RemoteWorker, told: dict[str, Any]) -> None:
        """Take what a worker has sent before it ended: its connection may be slower than the job channel."""
        self._event_loop.drain(worker.connection)
        told = told | {"retiring": worker.retiring}
        if not worker.may_have_more:
            self._take_exit(node, worker, told)
            return
        worker.retiring = True
        deadline = time.monotonic() + _LAST_SECONDS

        def wait() -> Steps[None]:
            while worker.may_have_more and time.monotonic() < deadline:
                yield from pause(_LOOK_SECONDS)

        self._event_loop.background.start(wait(), math.inf, lambda _: self._take_exit(node, worker, told))

    def _take_exit(self, node: NodeWorkers, worker: RemoteWorker, told: dict[str, Any]) -> None:
        if node.workers.get(worker.number) is not worker:
            return  # the node was lost meanwhile
        is_unknown = worker.may_have_more
        self._forget(node, worker)
        for message in worker.decode(told["results"]):
            self._take(worker, message)
        jobs = list(worker.jobs.values())
        running = worker.jobs.get(told["job"])
        if running is None and jobs and not told["retiring"] and not node.gone and not is_unknown:
            jobs[0].suspicions += 1  # it may have died of what it was about to receive
            if jobs[0].suspicions >= _MAX_SUSPICIONS:
                running = jobs[0]
        if running is not None:
            jobs.remove(running)
            running.duration = told["seconds"]
            take_output(running, *told["outputs"])
        for job in reversed(jobs):
            if is_unknown:
                self._owner.lose(
                    job, f"its worker at {node} died: {told['how']}; whether it had done this is unknown"
                )
            else:
                self._owner.requeue(job)
        if running is not None:
            words = f"its worker at {node} died: {told['how']}"
            self._owner.lose(running, with_last_words(words, running.stdout + running.stderr))

"""The supervisor's side of jobs: the slots of this session, its workers, and the channel on which the client is told.

Jobs themselves pass between the client and the workers. What is said here is how many workers there may be, which
there are, and how they ended; the client's thread for jobs has a connection of its own for that, the *job channel*.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pconnect.errors import ConnectionLostError
from pconnect.link.connection import Connection
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT, prepare
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import JOB_CHANNEL, PREAMBLE_BYTES, Kind, Preamble
from pconnect.protocol.messages import Message, Role
from pserver.engine.links import greet
from pserver.jobs.detached_worker import CONNECTION
from pserver.jobs.shared_status import SharedStatus
from pserver.session.detached_jobs import DetachedJobs, WorkerControl
from pserver.session.engine_process import EngineProcess, describe_exit
from pserver.session.login import AuthenticatedClient
from pserver.session.recovery import Recovery
from pserver.session.slot_client import Granted, SlotClient, Total, Yield
from pserver.session.worker_process import WorkerProcess, output_file, tail_of
from srp_tools.channel import Channel, tls_context
from srp_tools.steps import deadline_after

_HANDSHAKE_TIMEOUT = 20.0
_LOOK = 0.2  # seconds between two looks at what the workers do
_LIMIT_GRACE = 5.0  # seconds for a job to end after the interrupt at its time limit
_IDLE_GRACE = 1.0  # seconds for the client to take back an idle worker whose slot the server wants


class Workers:
    """The workers of one session: those of `client`, forked by its engine `process`.

    Parameters
    ----------
    folder
        The private one of the session.
    handover
        On which the daemon passes on the client's connections for jobs.
    kept
        The folder of what detached sessions leave.
    on_detached
        Called when the client has left its jobs to the session.

    Attributes
    ----------
    detached_jobs
        The jobs that go on without the client, if it leaves them.
    """

    def __init__(  # noqa: PLR0917 - it stands between all of these
        self,
        event_loop: EventLoop,
        client: AuthenticatedClient,
        process: EngineProcess,
        folder: str,
        slot_client: SlotClient,
        handover: socket.socket,
        kept: Path,
        on_detached: Callable[[], object],
    ) -> None:
        self._event_loop = event_loop
        self._client = client
        self._process = process
        self._folder = folder
        self._slot_client = slot_client
        self._handover = handover
        self._context = tls_context(client.identity, server_side=True) if client.identity else None
        self._channel: Connection | None = None
        self._workers: dict[int, WorkerProcess] = {}
        self._last_number = JOB_CHANNEL
        self._slots: int | None = None  # of the server
        self._wanted = 0
        self._exclusive = False
        self._is_ready = False
        self._died = ""
        self._closing = False
        staff = WorkerControl(
            self._workers,
            event_loop.watch,
            event_loop.unwatch,
            self._tell,
            self._want,
            slot_client,
            on_detached,
        )
        self.detached_jobs = DetachedJobs(kept, client.network_id, client.node, client.user, staff)
        self._recovery = Recovery(kept, client.user, lambda: self._channel, event_loop.flush)
        self._done = [0, 0.0, 0.0]  # jobs, seconds and seconds of transfer of workers that have ended
        handover.setblocking(False)
        event_loop.watch(handover.fileno(), self._take_connection)
        event_loop.watch(slot_client.fileno(), self._read_leases)
        event_loop.watch(process.spawner.deaths.fileno(), self._read_deaths)

    # --- the engine ---

    def attend_engine(self) -> None:
        """Listen to an engine that has begun."""
        self._forks = self._process.forks
        self._event_loop.watch(self._forks.fileno(), self._read_refusal)

    def engine_is_ready(self) -> None:
        """Take note that the engine can be asked for workers."""
        self._is_ready, self._died = True, ""
        self._tell_pool()
        self._ask()

    def engine_ended(self, how: str) -> None:
        """End the workers of an engine that has ended."""
        self._is_ready, self._died = False, how
        with contextlib.suppress(KeyError):
            self._event_loop.unwatch(self._forks.fileno())
        for worker in list(self._workers.values()):
            worker.why_killed = f"the engine died: {how}"
            if worker.pid:
                worker.signal(signal.SIGKILL)
            else:
                self._forget_unborn(worker)
        self.detached_jobs.lose_all(f"the engine died: {how}")
        self._tell_pool()
        self._ask()

    def close(self, reason: str) -> None:
        """End all workers."""
        self._closing = True
        self.detached_jobs.close(reason)
        for worker in self._workers.values():
            if worker.pid:
                worker.signal(signal.SIGKILL)
            worker.close()
        self._workers.clear()
        if self._channel is not None:
            self._event_loop.discard(self._channel)
        self._handover.close()

    # --- slots ---

    def _ask(self) -> None:
        has_client = self._channel is not None and self._channel.error is None
        able = self._is_ready and (has_client or self.detached_jobs.is_detached)
        self._slot_client.ask(self._wanted if able else 0, exclusive=self._exclusive and able)

    def _want(self, wanted: int) -> None:
        """Want so many workers, alone on the server no longer; for when the client has left."""
        self._wanted, self._exclusive = wanted, False
        self._ask()

    def _read_leases(self) -> None:
        for event in self._slot_client.read():
            match event:
                case Total(count):
                    self._slots = count
                    self._tell_pool()
                case Granted(lease):
                    self._start(lease)
                case Yield(lease):
                    for worker in [worker for worker in self._workers.values() if worker.lease == lease]:
                        self._yield(worker)
        if self._slot_client.is_gone:
            self._event_loop.unwatch(self._slot_client.fileno())

    def _yield(self, worker: WorkerProcess) -> None:
        """Have the client take back a worker, or do without it if the engine has had no time to fork it."""
        if not worker.pid:
            self._forget_unborn(worker)
        elif worker.yields_since is None:
            worker.yields_since = time.monotonic()
            self._tell(Kind.YIELD, worker.number)

    def _start(self, lease: int) -> None:
        """Have a worker forked for a slot."""
        if not self._is_ready or len(self._workers) >= self._wanted:
            self._slot_client.give_back(lease)
            self._ask()
            return
        self._last_number += 1
        try:
            worker = self._make(self._last_number, lease)
        except OSError as error:
            self._slot_client.give_back(lease)
            self._refuse(self._last_number, f"a worker could not be started: {error}")
            return
        self._workers[worker.number] = worker
        self._event_loop.watch(worker.pipe.fileno(), lambda: self._read_pipe(worker))

    def _make(self, number: int, lease: int) -> WorkerProcess:
        with contextlib.ExitStack() as stack:
            pipe, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(theirs)
            memory = SharedStatus.make()
            stack.callback(os.close, memory)
            outputs: list[IO[bytes]] = [output_file(self._folder) for _ in range(2)]
            ends = [theirs.fileno(), memory, *(file.fileno() for file in outputs)]
            threads = max(1, len(os.sched_getaffinity(0)) // max(1, self._slots or 1))
            socket.send_fds(self._process.forks, [str(threads).encode()], ends)
            pipe.setblocking(False)
            return WorkerProcess(number, lease, pipe, SharedStatus(memory), outputs)

    def _read_refusal(self) -> None:
        """Take what the engine says of a worker that it cannot fork, the oldest that has not come."""
        try:
            text = self._forks.recv(1000).decode()
        except OSError:
            text = ""
        unborn = [worker for worker in self._workers.values() if not worker.pid]
        if not text or not unborn:
            with contextlib.suppress(KeyError):
                self._event_loop.unwatch(self._forks.fileno())  # the engine is gone
            return
        self._forget_unborn(unborn[0])
        self._refuse(unborn[0].number, text)

    def _refuse(self, number: int, text: str) -> None:
        """Tell the client that there is one worker less; it asks again if it wants."""
        self._wanted = len(self._workers)
        self._ask()
        self._tell(Kind.WORKER, number, text)

    def _forget_unborn(self, worker: WorkerProcess) -> None:
        self._event_loop.unwatch(worker.pipe.fileno())
        del self._workers[worker.number]
        worker.close()
        self._slot_client.give_back(worker.lease)

    # --- the workers ---

    def _read_pipe(self, worker: WorkerProcess) -> None:
        """Take a worker's first and only word."""
        try:
            words = worker.pipe.recv(100).split()
            worker.pidfd = os.pidfd_open(int(words[0]))
        except (OSError, IndexError):  # it ended before it could say who it is
            self._forget_unborn(worker)
            self._refuse(worker.number, "a worker ended while it was started")
            return
        self._event_loop.unwatch(worker.pipe.fileno())
        worker.pid, worker.command = int(words[0]), int(words[1])
        self._slot_client.bind(worker.lease, worker.pidfd)
        with contextlib.suppress(ConnectionLostError):  # then the engine is gone, too, and everything with it
            self._process.spawner.adopt(worker.pid)
        self._tell(Kind.WORKER, worker.number, {"pid": worker.pid, "command": worker.command})
        self.detached_jobs.meet(worker)

    def _read_deaths(self) -> None:
        while (death := self._process.spawner.read_death()) is not None:
            pid, code = death
            for worker in [worker for worker in self._workers.values() if worker.pid == pid]:
                self._bury(worker, code)

    def _bury(self, worker: WorkerProcess, code: int) -> None:
        del self._workers[worker.number]
        status = worker.page.read()
        # A job that heeded its interrupt is no reason for what came later.
        why = worker.why_killed if worker.stopping in {0, status.job} else ""
        how = describe_exit(code) + (f" ({why})" if why else "")
        told = {
            "how": how,
            "job": status.job,
            "seconds": time.monotonic() - status.started if status.job else 0.0,
            "results": bytes(worker.page.results(status.unsent)),
            "outputs": [tail_of(file) for file in worker.outputs],
        }
        sums = (status.jobs, status.seconds, status.transfer)
        self._done = [before + more for before, more in zip(self._done, sums, strict=True)]
        self.detached_jobs.bury(worker, status, told)
        worker.close()
        self._tell(Kind.ENDED, worker.number, told)

    def facts(self) -> dict[str, Any]:
        """Return what the workers have done so far: each that lives, and all those before together."""
        now = time.monotonic()
        living = [worker.facts(now) for worker in self._workers.values()]
        return {"slots": self._slots, "workers": living, "ended": list(self._done)}

    def tend(self) -> float:
        """Look at what the workers do; return in how many seconds to call this again."""
        seconds = min(self.detached_jobs.tend(), self._recovery.tend())
        if not self._workers:
            return seconds
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.pid:
                self._look(worker, now)
        return min(seconds, _LOOK)

    def _look(self, worker: WorkerProcess, now: float) -> None:
        status = worker.page.read()
        seconds = now - status.started
        if not status.job:
            if worker.yields_since is not None and now - worker.yields_since > _IDLE_GRACE:
                worker.signal(signal.SIGKILL)  # the client does not take it back
            return
        if status.job != worker.told_running and seconds > _LOOK:
            worker.told_running = status.job
            self._tell(Kind.RUNNING, worker.number, [status.job, seconds])
        if status.limit and seconds > status.limit and worker.stopping != status.job:
            why = f"job {status.job} did not end within {_LIMIT_GRACE:g} s of its time limit"
            worker.stop(status.job, _LIMIT_GRACE, why)
        if worker.stopping == status.job and now > worker.kill_at:
            worker.signal(signal.SIGKILL)
        worker.bound_outputs()

    # --- the client ---

    def _take_connection(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._handover, PREAMBLE_BYTES, 1, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        if not descriptors:  # the daemon is gone
            self._event_loop.unwatch(self._handover.fileno())
            return
        endpoint = Preamble.unpack(data).endpoint
        worker = self._workers.get(endpoint)
        if endpoint == JOB_CHANNEL:
            self._welcome(descriptors[0])
        elif worker is not None and worker.pid:
            self._pass_on(worker, descriptors[0])
        else:
            os.close(descriptors[0])

    def _pass_on(self, worker: WorkerProcess, descriptor: int) -> None:
        with contextlib.suppress(OSError):  # it has just ended, of which the client is told
            socket.send_fds(worker.pipe, [CONNECTION], [descriptor])
        os.close(descriptor)

    def _welcome(self, descriptor: int) -> None:
        sock = socket.socket(fileno=descriptor)
        prepare(sock, DEFAULT_PEER_TIMEOUT)

        def end(outcome: Channel | Exception) -> None:
            if isinstance(outcome, Channel):
                self._open(outcome)

        steps = greet(sock, self._context, self._client.network_id, 0)
        self._event_loop.background.start(steps, deadline_after(_HANDSHAKE_TIMEOUT), end)

    def _open(self, channel: Channel) -> None:
        if self._channel is not None:
            self._event_loop.discard(self._channel)
            self._end_jobs()
        self._channel = Connection(0, "client", channel, role=Role.WORKERS)
        self._channel.on_message = self._from_client
        self._channel.on_lost = lambda _: self._end_jobs()
        self._event_loop.add(self._channel)
        self._tell_pool()
        self._ask()

    def _end_jobs(self) -> None:
        """End all workers: there is nobody any more who would take what they make, unless it is kept."""
        if self.detached_jobs.is_detached:
            return
        self._wanted = 0
        for worker in list(self._workers.values()):
            if worker.pid:
                worker.signal(signal.SIGKILL)
            else:
                self._forget_unborn(worker)
        self._ask()

    def _from_client(self, message: Message) -> None:
        worker = self._workers.get(message.tag)
        match message.kind:
            case Kind.WANT:
                self._wanted, self._exclusive = message.tag, bool(message.value)
                self._ask()
            case Kind.STOP if message.tag:
                if worker is not None:
                    worker.cancel(*message.value)
            case Kind.RECALL if worker is not None and worker.pid:
                job = message.value
                self._tell(Kind.RECALL, worker.number, [job, worker.page.recall(job)])
            case Kind.KEEP | Kind.DETACH | Kind.LEAVE:
                self.detached_jobs.hear(message)
            case Kind.RECOVER | Kind.TAKE | Kind.STOP:
                self._recovery.hear(message)

    def _tell_pool(self) -> None:
        if self._slots is not None:
            self._tell(Kind.POOL, 0, {"slots": self._slots, "ready": self._is_ready, "died": self._died})

    def _tell(self, kind: Kind, tag: int, value: Any = None) -> None:
        if self._channel is not None and not self._closing:
            self._channel.post(kind, tag, value)
            self._event_loop.flush(self._channel)

"""The supervisor: the login of one client, then everything about its engine that is not computing.

The supervisor owns the command channel. It passes commands to the engine one at a time, so that an interrupt can only
meet the command it was meant for; streams what the engine prints; and notices at once when the client is gone or the
engine has died. It runs no user code and stays responsive whatever the engine does.
"""

import contextlib
import logging
import math
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pconnect.errors import ConnectionLostError, ParallelError
from pconnect.link.connection import Connection
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT, bound_buffers, prepare
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import Kind
from pconnect.protocol.messages import Message, Role
from pserver.config import SessionSettings
from pserver.services.files import is_usable_folder
from pserver.session.engine_process import EngineProcess, describe_exit
from pserver.session.login import AuthenticatedClient, accept_client
from pserver.session.output_relay import Output
from pserver.session.slot_client import SlotClient
from pserver.session.time_limit import TimeLimit
from pserver.session.worker_manager import Workers
from pserver.system.session_folder import make_folder, remove_folder
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after, run

log = logging.getLogger("pserver")

# A command that has sent its result is often still on its last line when the client closes the network.
_LAST_WORDS = 0.1
# While so much waits for the client, nothing more is taken from the engine. That is more than `Output` leaves there: a
# client that does not take a flood of output keeps no command from beginning and ending.
_MAX_UNSENT_BYTES = 2**21
_LIMIT_GRACE = 5.0  # seconds for a command to end after the interrupt at its time limit


def session_main(
    sock: socket.socket, control: socket.socket, settings: SessionSettings, preamble: bytes
) -> None:
    """Be one session, from login to close; the target of a process of the fork server."""
    os.setsid()  # Ctrl-C at the daemon's terminal is for the daemon
    jobs, its_jobs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    engine = EngineProcess(not_for_it=(sock, control, jobs, its_jobs))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        filename=settings.log_file, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    prepare(sock, DEFAULT_PEER_TIMEOUT)
    bound_buffers(sock)
    deadline = deadline_after(settings.login_timeout)
    try:
        client = run(accept_client(sock, control, (engine.handover, its_jobs), settings, preamble), deadline)
    except (ParallelError, OSError) as error:
        log.warning("login from %s failed: %s", settings.peer, error)
        sock.close()
        engine.kill()
        engine.close()
        return
    folder = make_folder(control)
    with contextlib.suppress(ConnectionLostError):  # of which one hears when the engine is asked for
        engine.spawner.inherit(folder)
    with contextlib.closing(
        _Supervisor(client, engine, folder, settings, SlotClient(control), jobs)
    ) as supervisor:
        supervisor.run()


class _Supervisor:
    """A session after its login."""

    def __init__(  # noqa: PLR0917 - all that belongs to one session
        self,
        client: AuthenticatedClient,
        engine: EngineProcess,
        folder: str,
        settings: SessionSettings,
        slot_client: SlotClient,
        jobs: socket.socket,
    ) -> None:
        self._client = client
        self._process = engine
        self._event_loop = EventLoop()
        self._command = Connection(client.node, "client", client.channel, role=Role.SUPERVISOR)
        self._command.on_message = self._from_client
        self._event_loop.add(self._command)
        self._queue: deque[Message] = deque()  # commands and calls of services, for the engine
        self._running: int | None = None
        self._limit: TimeLimit | None = None  # of the command that runs
        self._why_killed = ""
        self._folder = folder  # the private one of the session, ours to remove
        self._max_file_size = settings.max_file_size
        self._meshed = False
        self._exit_code: int | None = None
        self._restarting: int | None = None  # number of the restart that waits for the engine's end
        self._refusing = False  # data connections, because there is no engine that would take them
        self._engine_paused = False
        self._stop_reason = ""
        self._patience: float | None = (
            None  # seconds for the engine to end, once the client closes the network
        )
        self._closing = False
        self._workers = Workers(self._event_loop, client, engine, folder, slot_client, jobs, settings.kept)
        self._attend_engine()
        self._catch_sigterm()

    def _attend_engine(self) -> None:
        self._output = Output(self._event_loop, self._command, self._process.outputs)
        self._engine = Connection(
            self._client.node, "engine", Channel(self._process.pipe), role=Role.OVERSEER
        )
        self._engine.on_message = self._from_engine
        self._event_loop.add(self._engine)
        self._event_loop.watch(self._process.pidfd, self._engine_died)
        self._workers.attend_engine()

    def _catch_sigterm(self) -> None:
        self._wakeup, theirs = socket.socketpair()
        self._wakeup_end = theirs
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        signal.signal(signal.SIGTERM, lambda *_: None)

        def stop() -> None:
            self._wakeup.recv(1)
            self._stop_reason = "the server was stopped"

        self._event_loop.watch(self._wakeup.fileno(), stop)

    def run(self) -> None:
        """Serve the client until it closes the network, or is gone, or the server stops; then what it has left."""
        detached_jobs = self._workers.detached_jobs
        while not (
            self._stop_reason
            or detached_jobs.is_done
            or (self._command.error and not detached_jobs.is_detached)
        ):
            limit = math.inf if self._limit is None else max(0.0, self._limit.deadline - time.monotonic())
            self._event_loop.poll(min(limit, self._go_on()))
            self._enforce_limit()
            if self._patience is not None and not detached_jobs.is_detached:
                self._close_engine(self._patience)
        if self._stop_reason and not self._command.error and not detached_jobs.is_detached:
            self._tell(Kind.STOPPING, self._stop_reason)

    def _go_on(self) -> float:
        """Do what had to wait for the client; return in how many seconds to call this again."""
        seconds = min(self._output.tend(), self._workers.tend())
        self._pace_engine()
        self._next_command()
        return seconds

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Serve the client until a condition holds or some seconds have passed."""

        def holds() -> bool:
            self._go_on()
            return condition()

        with contextlib.suppress(TimeoutError):
            self._event_loop.run_until(holds, deadline_after(seconds), what)

    def close(self) -> None:
        """End the engine and leave nothing behind."""
        self._workers.close(self._stop_reason)
        if self._exit_code is None:
            self._process.kill()
        remove_folder(self._folder)
        self._event_loop.close()
        self._process.close()
        signal.set_wakeup_fd(-1)
        if self._command.error:
            log.info("client of session %d is gone: %s", os.getpid(), self._command.error)

    def _tell(self, kind: Kind, value: object, tag: int = 0) -> None:
        """Send the last words of a session."""
        self._command.post(kind, tag, value)
        self._wait(lambda: not self._command.wants_to_write, 1.0, "the client")

    # --- what the client says ---

    def _from_client(self, message: Message) -> None:
        match message.kind:
            case Kind.SETUP:
                self._set_up(message.value)
            case Kind.COMMAND | Kind.CALL:
                self._queue.append(message)
                self._next_command()
            case Kind.INTERRUPT:
                self._interrupt(message.tag)
            case Kind.TAKEN:
                self._output.acknowledge()
            case Kind.CANCEL:
                self._cancel(message.tag)
            case Kind.KILL:
                self._process.signal(signal.SIGKILL)
            case Kind.RESTART:
                self._restart(message.tag, message.value)
            case Kind.PROBE:
                self._engine.post(Kind.PROBE, message.tag, message.value)
                self._event_loop.flush(self._engine)
            case Kind.QUERY:
                self._command.post(Kind.FACTS, message.tag, self._facts())
            case Kind.CLOSE:
                self._patience = message.tag / 1000
                if self._workers.detached_jobs.is_detached:
                    self._command.post(Kind.CLOSED, 0, False)
        self._event_loop.flush(self._command)

    def _set_up(self, setup: dict[str, Any]) -> None:
        setup["session_folder"] = self._folder
        setup["max_file_size"] = self._max_file_size
        setup["directory_is_clients"] = is_usable_folder(setup["directory"])
        if not setup["directory_is_clients"]:
            private = Path(self._folder, "work")
            private.mkdir(mode=0o700, exist_ok=True)
            setup["directory"] = str(private)
        identity = self._client.identity
        setup["node"] = self._client.node
        setup["identity"] = identity and [identity.key_pem, identity.certificate, identity.authority]
        self._engine.post(Kind.SETUP, 0, setup)
        self._event_loop.flush(self._engine)

    def _next_command(self) -> None:
        if not self._queue or self._running is not None or not self._meshed or self._exit_code is not None:
            return
        # Each command may leave what its pipes hold: without this, many would leave more than is allowed.
        if not self._output.waits:
            command = self._queue.popleft()
            self._running = command.tag
            self._output.begin(command.tag)
            self._limit = TimeLimit.of(command.value[2].get("seconds"))
            self._engine.post(command.kind, command.tag, command.value)
            self._event_loop.flush(self._engine)

    def _interrupt(self, number: int) -> None:
        while self._queue and self._queue[0].tag <= number:
            self._tell_not_begun(self._queue.popleft().tag)
        if self._running is not None and self._running <= number:
            self._signal_interrupt()

    def _cancel(self, number: int) -> None:
        if self._running == number:
            self._signal_interrupt()
            return
        for waiting in [waiting for waiting in self._queue if waiting.tag == number]:
            self._queue.remove(waiting)
            self._tell_not_begun(number)

    def _signal_interrupt(self) -> None:
        assert self._running is not None  # noqa: S101 - whoever calls this has looked
        # The message tells which command the signal is for: the engine may be just before it, or just after.
        self._engine.post(Kind.INTERRUPT, self._running)
        self._event_loop.flush(self._engine)
        self._process.signal(signal.SIGINT)

    def _tell_not_begun(self, number: int) -> None:
        message = "it was interrupted before it began"
        kind = "KeyboardInterrupt"
        failure: dict[str, Any] = {"type": kind, "bases": [kind], "message": message}
        failure |= {"traceback": f"KeyboardInterrupt: {message}", "values_sent": 0, "seconds": 0.0}
        self._command.post(Kind.DONE, number, failure)

    def _enforce_limit(self) -> None:
        """Interrupt a command whose time has passed, and kill the engine if that does not help."""
        limit = self._limit
        if limit is None or self._running is None or time.monotonic() < limit.deadline:
            return
        if limit.passed:
            self._why_killed = (
                f"command {self._running} did not end within {_LIMIT_GRACE:g} s of its time limit"
            )
            self._limit = None
            self._process.signal(signal.SIGKILL)
        else:
            limit.passed = True
            limit.deadline += _LIMIT_GRACE
            self._signal_interrupt()

    def _facts(self) -> dict[str, Any]:
        memory = None
        with contextlib.suppress(OSError):
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
            memory = pages * os.sysconf("SC_PAGE_SIZE")
        return {"load": os.getloadavg()[0], "memory_bytes": memory, "jobs": self._workers.facts()}

    def _close_engine(self, patience: float) -> None:
        """Let the engine end by itself; say whether it had to be killed."""
        self._queue.clear()
        self._closing = True
        if self._exit_code is None:
            self._wait(lambda: self._running is None, _LAST_WORDS, "the end of a command")
            if self._running is not None:
                self._process.signal(signal.SIGINT)
            self._engine.post(Kind.CLOSE)
            self._wait(lambda: self._exit_code is not None, patience, "the engine")
        self._tell(Kind.CLOSED, self._exit_code is None)
        self._stop_reason = "the network was closed"
        # The client closes its end when it has heard from all; until then we keep ours, else it would see us lost.
        self._wait(lambda: self._command.error is not None, 5.0, "the client")

    # --- what the engine says, prints, and how it ends ---

    def _from_engine(self, message: Message) -> None:
        if message.kind is Kind.DONE:
            self._output.end()  # what a command printed comes before its end
            self._running = None
            if self._limit is not None and self._limit.passed:
                self._limit.explain(message.value)
        elif message.kind is Kind.FRONT_END:
            self._output.drain()  # what is printed before a display is shown before it
        elif message.kind is Kind.MESHED and "pid" in message.value:
            self._meshed = True
            self._workers.engine_is_ready()
        self._command.post(message.kind, message.tag, message.value)
        self._event_loop.flush(self._command)
        self._next_command()

    def _pace_engine(self) -> None:
        """Take no more from the engine while the client takes nothing; its notes wait there, or are dropped."""
        unsent = self._command.unsent_bytes
        if not self._engine_paused and unsent > _MAX_UNSENT_BYTES and self._exit_code is None:
            self._event_loop.remove(self._engine)
            self._engine_paused = True
        elif self._engine_paused and unsent < _MAX_UNSENT_BYTES // 2:
            self._engine_paused = False
            if self._engine.error is None:
                self._event_loop.add(self._engine)

    def _engine_died(self) -> None:
        self._event_loop.unwatch(self._process.pidfd)
        self._exit_code = self._process.exit_code()
        self._event_loop.drain(self._engine)  # what it said last
        self._output.end()
        self._workers.engine_ended(describe_exit(self._exit_code))
        self._refusing = True
        self._event_loop.watch(self._process.its_handover.fileno(), self._refuse_data)
        if self._restarting is not None and not self._closing:
            self._replace_engine()
        elif not self._closing:
            reason = f" ({self._why_killed})" if self._why_killed else ""
            how = describe_exit(self._exit_code) + reason
            self._command.post(Kind.DIED, 0, {"how": how, "last_output": self._output.last})
            self._event_loop.flush(self._command)

    def _refuse_data(self) -> None:
        if not self._process.refuse_handover():
            self._stop_refusing()

    def _stop_refusing(self) -> None:
        if self._refusing:
            self._refusing = False
            self._event_loop.unwatch(self._process.its_handover.fileno())

    # --- another engine in the place of this one ---

    def _restart(self, number: int, contents: list[Any]) -> None:
        if self._client.node not in contents[0]:
            # The engine must have heard of it before another one dials: the answer says that it will have.
            self._engine.post(Kind.RESTART, number, contents)
            self._event_loop.flush(self._engine)
            self._command.post(Kind.RESTART, number)
            return
        self._restarting = number
        if self._exit_code is None:
            self._process.signal(signal.SIGKILL)
        else:
            self._replace_engine()

    def _replace_engine(self) -> None:
        """Forget an engine that has ended, and have another one wait for its set-up."""
        self._output.close()
        self._queue.clear()
        self._running = self._limit = None
        self._why_killed, self._meshed, self._engine_paused = "", False, False
        self._event_loop.discard(self._engine)
        number, self._restarting = self._restarting, None
        try:
            self._process.start_anew()
        except OSError as error:
            self._command.post(Kind.RESTART, number or 0, str(error))
        else:
            self._stop_refusing()
            self._exit_code = None
            self._attend_engine()
            self._command.post(Kind.RESTART, number or 0)
        self._event_loop.flush(self._command)

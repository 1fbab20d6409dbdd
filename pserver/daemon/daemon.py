"""The daemon: accepts on both ports, starts sessions, hands data connections over. It runs no user code.

It never decrypts and never waits for a peer. `pserver.daemon.acceptor` finds out what arrives. A client that begins a
login gets one of the `ServerConfig.max_startups` places for logins, or waits for one. The descriptor of a data
connection is passed to the engine that was registered for its network and node (SCM_RIGHTS); TLS begins there.

Sessions are processes of the standard library's fork server, a child that has numpy and tlslite loaded, so that a start
costs milliseconds; the daemon itself does without them. Sessions are not ours to wait for after our death: when the
daemon is killed, networks go on.
"""

import contextlib
import getpass
import json
import logging
import multiprocessing
import multiprocessing.forkserver
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from pconnect.protocol.frames import Preamble
from pserver.config import ServerConfig, SessionSettings, processor_count
from pserver.daemon.acceptor import Acceptor, PendingConnection
from pserver.daemon.slot_service import SlotService
from pserver.jobs.job_store import sweep
from pserver.system.pidfile import PidFile
from pserver.system.session_folder import remove_folder
from srp_tools.paths import server_file
from srp_tools.version import distribution_version

log = logging.getLogger("pserver")

_SWEEP_SECONDS = 3600.0
_STOP_GRACE = 3.0  # seconds for sessions to tell their clients and end
_PUBLISH_PAUSE = 0.2  # seconds at least between two times that others are told of slots; jobs may be short
_MESSAGE_BYTES = 4096
_MAX_ENDS = 2  # descriptors with a message: where data connections to the engine go, and where those of jobs


@dataclass(eq=False)
class _Session:
    """A session process, and what it has told about itself."""

    process: ForkServerProcess
    control: socket.socket
    peer: str
    since: float
    user: str | None = None
    network: str | None = None
    node: int = 0
    handovers: Sequence[socket.socket] = ()  # for data connections to the engine, and for those of jobs
    folder: str | None = None
    is_detached: bool = False


def serve(
    config: ServerConfig,
    announce: Callable[[dict[str, object]], None],
    lifeline: socket.socket | None = None,
) -> None:
    """Be the daemon until SIGTERM or SIGINT.

    Parameters
    ----------
    config
        Its settings.
    announce
        Called once with the status, when both ports listen.
    lifeline
        If given, the daemon also ends when this socket comes to its end.

    Raises
    ------
    ConfigurationError
        A server of that name runs already, or a port cannot be had.
    """
    with PidFile(config.name) as pid_file, contextlib.ExitStack() as stack:
        daemon = _Daemon(config, pid_file, stack)
        multiprocessing.forkserver.set_forkserver_preload(
            [__name__, "pserver.session.supervisor", "pserver.engine.engine"]
        )
        multiprocessing.forkserver.ensure_running()
        daemon.publish()
        announce(daemon.status())
        daemon.run(lifeline)


class _Daemon:
    """The daemon's loop and what it looks after."""

    def __init__(self, config: ServerConfig, pid_file: PidFile, stack: contextlib.ExitStack) -> None:
        self._config = config
        self._pid_file = pid_file
        self._bind = config.bind if config.bind or config.use_tls else "127.0.0.1"
        self._started = time.time()
        self._user = getpass.getuser()
        self._version = distribution_version()
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._stack = stack
        self._waiting: deque[PendingConnection] = deque()  # for a place to log in
        self._acceptor = Acceptor(config, self._bind, self._selector, self._waiting.append, self._hand_over)
        stack.callback(self._acceptor.close)
        self._slots = SlotService(config.slot_count(), self._selector)
        stack.callback(self._slots.close)
        self._sessions: dict[int, _Session] = {}  # by sentinel
        self._published: dict[str, int] = {}  # of slots
        self._published_at = 0.0
        self._sweep_due = 0.0
        self._stopping = ""
        self._catch_signals()  # before anybody is told that we are here: who has been told may stop us at once

    def status(self) -> dict[str, object]:
        """Return what others may know."""
        config = self._config
        return {
            "pid": os.getpid(),
            "name": config.name,
            "cmd_port": self._acceptor.cmd_port,
            "data_port": self._acceptor.data_port,
            "bind": self._bind,
            "use_tls": config.use_tls,
            "user": self._user,
            "started": self._started,
            "log_file": str(config.log_file) if config.log_file else None,
            "version": self._version,
            "slots": self._slots.facts,
            "sessions": [
                {
                    "pid": session.process.pid,
                    "peer": session.peer,
                    "user": session.user,
                    "since": session.since,
                    "network": session.network,
                    "detached": session.is_detached,
                }
                for session in self._sessions.values()
            ],
        }

    def publish(self) -> None:
        """Let others see the status."""
        self._published, self._published_at = self._slots.facts, time.monotonic()
        self._pid_file.write(self.status())

    def _publish_slots(self) -> float | None:
        """Let others see it if slots have changed, but not too often; return in how many seconds to look again."""
        if self._slots.facts == self._published:
            return None
        pause = self._published_at + _PUBLISH_PAUSE - time.monotonic()
        if pause > 0:
            return pause
        self.publish()
        return None

    def run(self, lifeline: socket.socket | None) -> None:
        """Serve until told to stop, then end the sessions."""
        log.info(
            "server %s is ready at %s, ports %d (commands) and %d (data), %s",
            self._config.name,
            self._bind or "all addresses",
            self._acceptor.cmd_port,
            self._acceptor.data_port,
            "TLS-SRP" if self._config.use_tls else "WITHOUT encryption and login",
        )
        total, processors = self._slots.facts["total"], processor_count()
        if total > processors:
            log.warning("--slots %d: jobs will share the %d processors that there are", total, processors)
        if lifeline is not None:
            self._watch(lifeline, lambda: self._stop("its parent is gone"))
        while not self._stopping:
            self.turn()
        self._end_sessions()
        log.info("server %s ends: %s", self._config.name, self._stopping)

    def turn(self) -> None:
        """Wait until something happens or is due, and do what there is to do."""
        waits = [self._acceptor.time_to_next_deadline(), self._slots.time_left()]
        limits = [*waits, self._publish_slots(), self._sweep()]
        for key, _ in self._selector.select(min((x for x in limits if x is not None), default=None)):
            # The callback of another entry may have ended this watch.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        self._acceptor.expire()
        self._start_waiting()
        self._slots.step()

    def _sweep(self) -> float:
        """Remove results that nobody has recovered, once in an hour; return in how many seconds the next is due."""
        now = time.monotonic()
        if now >= self._sweep_due:
            self._sweep_due = now + _SWEEP_SECONDS
            try:
                sweep(self._config.kept_folder(), self._config.keep_results, time.time())
            except OSError as error:
                log.error("old results cannot be removed: %s", error)
        return self._sweep_due - now

    # --- signals and listening ---

    def _catch_signals(self) -> None:
        # A signal between two looks at a flag would be lost; the system writes it into this socket instead.
        ours, theirs = socket.socketpair()
        for sock in (self._stack.enter_context(ours), self._stack.enter_context(theirs)):
            sock.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno())
        self._stack.callback(signal.set_wakeup_fd, before)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._stack.callback(signal.signal, number, signal.signal(number, lambda *_: None))

        def stop() -> None:
            self._stop(signal.Signals(ours.recv(1)[0]).name)

        self._watch(ours, stop)

    def _stop(self, reason: str) -> None:
        self._stopping = reason

    def _watch(self, sock: socket.socket, callback: Callable[[], object]) -> None:
        self._selector.register(sock, selectors.EVENT_READ, callback)

    def _hand_over(self, pending: PendingConnection, preamble: Preamble) -> None:
        reason = self._pass_on(pending, preamble)
        if reason:
            log.info("data connection from %s closed: %s", pending.peer, reason)
        pending.sock.close()

    def _pass_on(self, pending: PendingConnection, preamble: Preamble) -> str:
        """Give a data connection to its engine; return why not, if so."""
        network = preamble.network_id.hex()
        for session in self._sessions.values():
            if session.network == network and session.node == preamble.to_node and session.handovers:
                try:
                    handover = session.handovers[min(preamble.endpoint, 1)]
                    socket.send_fds(handover, [pending.received], [pending.sock.fileno()])
                except OSError as error:
                    return f"its engine does not take it ({error.strerror})"
                return ""
        return "no such network and node here"

    def _start_waiting(self) -> None:
        logins = sum(session.user is None for session in self._sessions.values())
        while self._waiting and logins < self._config.max_startups:
            pending = self._waiting.popleft()
            try:
                self._start_session(pending)
                logins += 1
            except OSError as error:
                log.error("cannot start a session for %s: %s", pending.peer, error)
            finally:
                pending.sock.close()
            self.publish()

    def _start_session(self, pending: PendingConnection) -> None:
        config = self._config
        settings = SessionSettings(
            auth_file=Path(config.auth_file or server_file()) if config.use_tls else None,
            data_port=self._acceptor.data_port,
            bind=self._bind,
            login_timeout=config.login_timeout,
            log_file=Path(config.log_file) if config.log_file else None,
            peer=pending.peer,
            kept=config.kept_folder(),
            max_file_size=config.max_file_size,
        )
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = multiprocessing.get_context("forkserver").Process(
                target=_be_session, args=(pending.sock, theirs, settings, bytes(pending.received))
            )
            process.start()
        self.attend(process, control, pending.peer)

    def attend(self, process: ForkServerProcess, control: socket.socket, peer: str) -> _Session:
        """Look after a session that has been started."""
        control.setblocking(False)
        session = _Session(process, control, peer, time.time())
        self._sessions[process.sentinel] = session
        self._selector.register(process.sentinel, selectors.EVENT_READ, lambda: self._bury(session))
        self._watch(control, lambda: self._hear(session))
        return session

    def _hear(self, session: _Session) -> bool:
        """Take in one message of a session: who has logged in, its folder, or of slots; false if there is none."""
        flags = socket.MSG_CMSG_CLOEXEC
        try:
            data, ends, _, _ = socket.recv_fds(session.control, _MESSAGE_BYTES, _MAX_ENDS, flags)
        except BlockingIOError:
            return False
        except OSError:
            data, ends = b"", []
        if not data:
            with contextlib.suppress(KeyError):  # it was at its end before
                self._selector.unregister(session.control)
            self._slots.silence(session)
            return False
        match _object(data):
            case {"folder": str(folder)} if not ends:
                session.folder = folder
            case {"user": str(user), "network": str(network), "node": int(node)} if (
                session.network is None and len(ends) == _MAX_ENDS
            ):
                self._register(session, (user, network, node), ends)
            case {"detached": True} if session.network is not None and not ends:
                session.is_detached = True
                self.publish()
            case told if told and session.network is not None:
                self._slots.take(session, session.network, session.control, told, ends)
            case _:
                for end in ends:
                    os.close(end)
                log.warning("session %d says what makes no sense: %.200r", session.process.pid, data)
        return True

    def _register(self, session: _Session, who: tuple[str, str, int], ends: Sequence[int]) -> None:
        """Take note of who logged in, for whose answer the session waits."""
        user, network, node = who
        handovers = [socket.socket(fileno=descriptor) for descriptor in ends]
        taken = any((other.network, other.node) == (network, node) for other in self._sessions.values())
        for handover in handovers:
            handover.setblocking(False)
            if taken:
                handover.close()
        if not taken:
            session.user, session.network, session.node = user, network, node
            session.handovers = handovers
            log.info("user %s from %s: session %d", session.user, session.peer, session.process.pid)
        with contextlib.suppress(OSError):
            session.control.send(b"taken" if taken else b"ok")
        self.publish()

    def _bury(self, session: _Session) -> None:
        while self._hear(session):  # else a lease would end whose process it has told of at last
            pass
        sentinel = session.process.sentinel
        self._selector.unregister(sentinel)
        with contextlib.suppress(KeyError):
            self._selector.unregister(session.control)
        del self._sessions[sentinel]
        self._slots.leave(session)
        session.process.join()
        log.info("session %d of %s ended (%s)", session.process.pid, session.peer, session.process.exitcode)
        session.process.close()
        session.control.close()
        for handover in session.handovers:
            handover.close()
        if session.folder:
            remove_folder(session.folder)  # it has done so itself, unless it was killed
        self.publish()

    def _end_sessions(self) -> None:
        for pending in self._waiting:
            pending.sock.close()
        for session in self._sessions.values():
            session.process.terminate()
        deadline = time.monotonic() + _STOP_GRACE
        for session in self._sessions.values():
            session.process.join(max(0.0, deadline - time.monotonic()))
            if session.process.exitcode is None:
                session.process.kill()
                session.process.join(1.0)


def _object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that a session has sent; an empty one if it is none."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _be_session(
    sock: socket.socket, control: socket.socket, settings: SessionSettings, preamble: bytes
) -> None:
    """Be a session; what a process of the fork server does."""
    # Here, because the daemon does not need what a session does: it starts sooner, and takes less memory.
    from pserver.session.supervisor import session_main  # noqa: PLC0415

    session_main(sock, control, settings, preamble)

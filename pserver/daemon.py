"""The daemon: accepts on both ports, starts sessions, hands data connections over. It runs no user code.

It never decrypts and never waits for a peer. What arrives is looked at just far enough to know where it belongs:

* at the command port, the first byte of a TLS handshake (or the preamble of a plain client). Only then does it take one
  of the `ServerConfig.max_startups` places for logins, so silence and port scans cost a socket and nothing else;
* at the data port, the preamble. It names the network and the node, and the descriptor is passed to the engine that was
  registered for it (SCM_RIGHTS); TLS begins there.

Sessions are processes of the standard library's fork server, a child that has numpy and tlslite loaded, so that a start
costs milliseconds. They are not ours to wait for after our death: when the daemon is killed, networks go on.
"""

import contextlib
import getpass
import importlib.metadata
import json
import logging
import math
import multiprocessing
import multiprocessing.forkserver
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from typing import Any

from pconnect.errors import ProtocolError
from pconnect.frames import PREAMBLE_BYTES, PREAMBLE_MAGIC, Preamble, Purpose
from pserver.config import ServerConfig
from pserver.pidfile import PidFile
from srp_tools.credentials import server_file
from srp_tools.errors import ConfigurationError

log = logging.getLogger("pserver")

_TLS_HANDSHAKE = 0x16  # first byte of a TLS connection (RFC 5246, section 6.2.1)
_MAX_ARRIVALS = 1000  # beyond, the oldest silent connection makes room
_STOP_GRACE = 3.0  # seconds for sessions to tell their clients and end
_REGISTRATION_BYTES = 4096


@dataclass(eq=False)
class _Arrival:
    """A connection that has not yet said enough."""

    sock: socket.socket
    peer: str
    is_data: bool
    deadline: float
    received: bytearray = field(default_factory=bytearray)


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
    handover: socket.socket | None = None


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
        multiprocessing.forkserver.set_forkserver_preload(["pserver.session", "pserver.engine"])
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
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._stack = stack
        self._cmd_port = self._listen(config.cmd_port, "--cmd-port", is_data=False)
        self._data_port = self._listen(config.data_port, "--data-port", is_data=True)
        self._arrivals: dict[_Arrival, None] = {}  # in the order of arrival
        self._waiting: deque[_Arrival] = deque()  # for a place to log in
        self._sessions: dict[int, _Session] = {}  # by sentinel
        self._stopping = ""

    def status(self) -> dict[str, object]:
        """Return what others may know."""
        config = self._config
        return {
            "pid": os.getpid(),
            "name": config.name,
            "cmd_port": self._cmd_port,
            "data_port": self._data_port,
            "bind": self._bind,
            "use_tls": config.use_tls,
            "user": getpass.getuser(),
            "started": self._started,
            "log_file": str(config.log_file) if config.log_file else None,
            "version": importlib.metadata.version("pserver"),
            "sessions": [
                {
                    "pid": session.process.pid,
                    "peer": session.peer,
                    "user": session.user,
                    "since": session.since,
                    "network": session.network,
                }
                for session in self._sessions.values()
            ],
        }

    def publish(self) -> None:
        """Let others see the status."""
        self._pid_file.write(self.status())

    def run(self, lifeline: socket.socket | None) -> None:
        """Serve until told to stop, then end the sessions."""
        log.info(
            "server %s listens at %s, ports %d (commands) and %d (data), %s",
            self._config.name,
            self._bind or "all addresses",
            self._cmd_port,
            self._data_port,
            "TLS-SRP" if self._config.use_tls else "WITHOUT encryption and login",
        )
        self._catch_signals()
        if lifeline is not None:
            self._watch(lifeline, lambda: self._stop("its parent is gone"))
        while not self._stopping:
            for key, _ in self._selector.select(self._time_to_next_deadline()):
                key.data()
            self._expire()
            self._start_waiting()
        self._end_sessions()
        log.info("server %s ends: %s", self._config.name, self._stopping)

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

    def _watch(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        self._selector.register(sock, selectors.EVENT_READ, callback)

    def _listen(self, port: int, option: str, *, is_data: bool) -> int:
        try:
            if self._bind is None and socket.has_dualstack_ipv6():
                listener = socket.create_server(
                    ("", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True
                )
            else:
                family, _, _, _, address = socket.getaddrinfo(
                    self._bind or "0.0.0.0",  # noqa: S104 - all addresses is what the user asked for
                    port,
                    type=socket.SOCK_STREAM,
                )[0]
                listener = socket.create_server(address[:2], family=family, backlog=1024)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigurationError(
                f"cannot listen at {self._bind or 'all addresses'} port {port} ({option}): {reason}"
            ) from error
        self._stack.enter_context(listener)
        listener.setblocking(False)
        self._watch(listener, lambda: self._accept(listener, is_data=is_data))
        return int(listener.getsockname()[1])

    def _accept(self, listener: socket.socket, *, is_data: bool) -> None:
        try:
            sock, address = listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError | ConnectionAbortedError):
                log.warning("cannot accept a connection: %s", error)
                self._drop_oldest()
            return
        sock.setblocking(False)
        deadline = time.monotonic() + self._config.silence_timeout
        arrival = _Arrival(sock, f"{address[0]} port {address[1]}", is_data, deadline)
        if len(self._arrivals) >= _MAX_ARRIVALS:
            self._drop_oldest()
        self._arrivals[arrival] = None
        self._watch(sock, lambda: self._look_at(arrival))

    # --- connections that have not yet said where they belong ---

    def _look_at(self, arrival: _Arrival) -> None:
        try:
            if arrival.is_data or not self._config.use_tls:
                self._read_preamble(arrival)
            else:
                self._peek(arrival)
        except OSError as error:
            self._drop(arrival, f"it broke: {error}")

    def _peek(self, arrival: _Arrival) -> None:
        first = arrival.sock.recv(1, socket.MSG_PEEK)
        if first and first[0] == _TLS_HANDSHAKE:
            self._leave_selector(arrival)
            self._waiting.append(arrival)
        elif first == PREAMBLE_MAGIC[:1]:
            with contextlib.suppress(OSError):
                arrival.sock.recv(
                    PREAMBLE_BYTES
                )  # else closing would reset the connection, and the answer be lost
                arrival.sock.send(Preamble(Purpose.NEEDS_TLS).pack())
            self._drop(arrival, "a client without TLS")
        else:
            self._drop(arrival, "not TLS" if first else "closed without a word")

    def _read_preamble(self, arrival: _Arrival) -> None:
        data = arrival.sock.recv(PREAMBLE_BYTES - len(arrival.received))
        arrival.received += data
        if not PREAMBLE_MAGIC.startswith(arrival.received[:4]) or not data:
            self._drop(arrival, "not a pserver's client" if data else "closed too early")
        elif len(arrival.received) == PREAMBLE_BYTES:
            try:
                preamble = Preamble.unpack(bytes(arrival.received))
            except ProtocolError as error:
                self._drop(arrival, str(error))
            else:
                self._place(arrival, preamble)

    def _place(self, arrival: _Arrival, preamble: Preamble) -> None:
        if not arrival.is_data:
            self._leave_selector(arrival)
            self._waiting.append(arrival)
            return
        self._leave_selector(arrival)
        reason = self._hand_over(arrival, preamble)
        if reason:
            log.info("data connection from %s closed: %s", arrival.peer, reason)
        arrival.sock.close()

    def _hand_over(self, arrival: _Arrival, preamble: Preamble) -> str:
        network = preamble.network_id.hex()
        for session in self._sessions.values():
            if session.network == network and session.node == preamble.to_node and session.handover:
                try:
                    socket.send_fds(session.handover, [arrival.received], [arrival.sock.fileno()])
                except OSError as error:
                    return f"its engine does not take it ({error.strerror})"
                return ""
        return "no such network and node here"

    def _leave_selector(self, arrival: _Arrival) -> None:
        self._selector.unregister(arrival.sock)
        del self._arrivals[arrival]

    def _drop(self, arrival: _Arrival, reason: str) -> None:
        port = "data" if arrival.is_data else "command"
        log.info("connection from %s at the %s port closed: %s", arrival.peer, port, reason)
        self._leave_selector(arrival)
        arrival.sock.close()

    def _drop_oldest(self) -> None:
        for arrival in list(self._arrivals)[:1]:
            self._drop(arrival, "too many silent connections")

    def _time_to_next_deadline(self) -> float | None:
        first = min((arrival.deadline for arrival in self._arrivals), default=math.inf)
        return None if first == math.inf else max(0.0, first - time.monotonic())

    def _expire(self) -> None:
        now = time.monotonic()
        for arrival in [arrival for arrival in self._arrivals if arrival.deadline <= now]:
            self._drop(arrival, f"silent for {self._config.silence_timeout:g} s")

    # --- sessions ---

    def _start_waiting(self) -> None:
        logins = sum(session.user is None for session in self._sessions.values())
        while self._waiting and logins < self._config.max_startups:
            arrival = self._waiting.popleft()
            try:
                self._start_session(arrival)
                logins += 1
            except OSError as error:
                log.error("cannot start a session for %s: %s", arrival.peer, error)
            finally:
                arrival.sock.close()
            self.publish()

    def _start_session(self, arrival: _Arrival) -> None:
        # Late: what it brings (numpy, tlslite) is for the fork server; the daemon needs only the name.
        from pserver.session import SessionSettings, session_main  # noqa: PLC0415

        config = self._config
        settings = SessionSettings(
            auth_file=(config.auth_file or server_file()) if config.use_tls else None,
            data_port=self._data_port,
            bind=self._bind,
            login_timeout=config.login_timeout,
            log_file=config.log_file,
            peer=arrival.peer,
        )
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = multiprocessing.get_context("forkserver").Process(
                target=session_main, args=(arrival.sock, theirs, settings, bytes(arrival.received))
            )
            process.start()
        control.setblocking(False)
        session = _Session(process, control, arrival.peer, time.time())
        self._sessions[process.sentinel] = session
        self._selector.register(process.sentinel, selectors.EVENT_READ, lambda: self._bury(session))
        self._watch(control, lambda: self._register(session))

    def _register(self, session: _Session) -> None:
        """Take note of who logged in; the session waits for the answer before it tells its client."""
        try:
            data, descriptors, _, _ = socket.recv_fds(session.control, _REGISTRATION_BYTES, 1)
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._selector.unregister(session.control)
            return
        told: dict[str, Any] = json.loads(data)
        handover = socket.socket(fileno=descriptors[0])
        handover.setblocking(False)
        taken = any(
            (other.network, other.node) == (told["network"], told["node"])
            for other in self._sessions.values()
        )
        if taken:
            handover.close()
        else:
            session.user, session.network, session.node = told["user"], told["network"], told["node"]
            session.handover = handover
            log.info("user %s from %s: session %d", session.user, session.peer, session.process.pid)
        with contextlib.suppress(OSError):
            session.control.send(b"taken" if taken else b"ok")
        self.publish()

    def _bury(self, session: _Session) -> None:
        sentinel = session.process.sentinel
        self._selector.unregister(sentinel)
        with contextlib.suppress(KeyError):
            self._selector.unregister(session.control)
        del self._sessions[sentinel]
        session.process.join()
        log.info("session %d of %s ended (%s)", session.process.pid, session.peer, session.process.exitcode)
        session.process.close()
        session.control.close()
        if session.handover:
            session.handover.close()
        self.publish()

    def _end_sessions(self) -> None:
        for arrival in [*self._arrivals, *self._waiting]:
            arrival.sock.close()
        for session in self._sessions.values():
            session.process.terminate()
        deadline = time.monotonic() + _STOP_GRACE
        for session in self._sessions.values():
            session.process.join(max(0.0, deadline - time.monotonic()))
            if session.process.exitcode is None:
                session.process.kill()
                session.process.join(1.0)

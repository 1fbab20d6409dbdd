"""The daemon: accepts connections on both ports, starts sessions, passes on data connections. It runs no user code.

It never decrypts and never waits for a peer. `pserver.daemon.door.acceptor` classifies the arriving connections. Logins
wait for their turn, see `pserver.daemon.door.logins`. The daemon passes the descriptor of a data connection
(SCM_RIGHTS) to the engine that is registered for its network and node; TLS starts there.

The starter forks the sessions, see `pserver.starter.starter`; the daemon itself does not import their modules. The
daemon signs a proof of the server's identity for each login, because sessions, which may run under a user's account,
never have the key. Sessions do not depend on the daemon's life: if it is killed, networks keep running.
"""

import contextlib
import functools
import getpass
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pconnect.protocol.frames import Preamble
from pserver.config.advertised import places_of
from pserver.config.server_config import ServerConfig, processor_count
from pserver.config.session_settings import SessionSettings
from pserver.ctl.asking import control_path
from pserver.daemon.callback_selector import CallbackSelector, LoopPart
from pserver.daemon.control.control import Control
from pserver.daemon.control.departures import Departures
from pserver.daemon.control.endings import Endings
from pserver.daemon.control.reloading import Reloading
from pserver.daemon.control.server_statistics import ServerStatistics
from pserver.daemon.control.status_page import StatusPage
from pserver.daemon.control.words import Server
from pserver.daemon.door.acceptor import Acceptor
from pserver.daemon.door.arrivals import PendingConnection
from pserver.daemon.door.known_ports import accept_at_known_ports
from pserver.daemon.door.logins import Logins
from pserver.daemon.duty_keeper import DutyKeeper
from pserver.daemon.held_session import Session
from pserver.daemon.limits_of_sessions import LimitsOfSessions
from pserver.daemon.old_results import OldResults
from pserver.daemon.pool.pool import Pool
from pserver.daemon.returning_sessions import Returned, ReturningSessions
from pserver.daemon.session_registry import SessionRegistry
from pserver.daemon.slot_service import SlotService
from pserver.daemon.status_publisher import StatusPublisher
from pserver.daemon.user_file import UserFileWatch
from pserver.duty.admission import Admission
from pserver.pool.member_file import MemberFile
from pserver.pool.server_key import KeyFile
from pserver.starter.session_starts import SessionStarts, Started
from pserver.starter.starter import StarterProcess
from pserver.system.log import level_now, set_level, why_unwritten
from pserver.system.pidfile import PidFile
from pserver.system.processes import DAEMON, name_process, raise_descriptor_limit, set_title
from pserver.system.runtime_dir import is_apart, run_time_folder
from pserver.systemd.notify import ServiceManager, in_words
from srp_tools.packages import distribution_version

log = logging.getLogger("pserver")


def serve(
    config: ServerConfig,
    announce: Callable[[dict[str, object]], None],
    lifeline: socket.socket | None = None,
    starter: StarterProcess | None = None,
    manager: ServiceManager | None = None,
    *,
    read: Callable[[], ServerConfig] | None = None,
) -> None:
    """Run the daemon until SIGTERM or SIGINT.

    `announce`: called once with the status, when both ports listen. `lifeline`: a socket; the daemon also ends when its
    other end closes. `starter`: a starter that is already running. `manager`: the service manager that started this
    process, if any. `read`: reads the settings again, for a reload. Raises `ConfigurationError` if a server of this
    name is already running, if a port is not available, or if the starter ends while it starts.
    """
    name_process(DAEMON)
    set_title(f"daemon {config.name}")
    with (
        PidFile(config.name, is_apart=lifeline is not None or is_apart()) as pid_file,
        contextlib.ExitStack() as stack,
    ):
        soft_limit, _ = raise_descriptor_limit()
        starter = starter or StarterProcess(soft_limit, has_accounts=config.has_accounts)
        stack.callback(starter.close)
        starter.await_ready()
        manager = manager or ServiceManager()
        daemon = _Daemon(config, pid_file, stack, manager, read=read)
        daemon.starts.starter.begin(soft_limit, starter)
        daemon.begin_log()
        daemon.publish()
        announce(daemon.status() | {"members": []})  # without known members: there may be many
        manager.ready()
        daemon.run(lifeline)


class _Paths(NamedTuple):
    """The daemon's sockets in the run-time folder."""

    local: Path | None  #: for local links, if the server has them
    sessions: Path  #: for sessions that return after the loss of their daemon


class _Daemon:
    """The daemon's loop and its parts."""

    def __init__(
        self,
        config: ServerConfig,
        pid_file: PidFile,
        stack: contextlib.ExitStack,
        manager: ServiceManager,
        *,
        read: Callable[[], ServerConfig] | None,
    ) -> None:
        self._config = config
        # The constant part of the status.
        self._facts = {"user": getpass.getuser(), "started": time.time(), "version": distribution_version()}
        self._selector = stack.enter_context(CallbackSelector())
        kept = MemberFile(config.kept_folder(), time.monotonic())
        stack.callback(kept.key.close)
        start = functools.partial(self._start_session, LimitsOfSessions(), key=kept.key)
        self._logins = Logins(config, self._selector, start)
        stack.callback(self._logins.close)
        self._acceptor = accept_at_known_ports(config, pid_file.predecessor, self._accept)
        stack.callback(self._acceptor.close)
        path = run_time_folder() / f"{config.name}.socket"
        # Without a login, the token of a local link could not be sent safely.
        with_local = config.use_tls and not config.has_accounts
        local = path if with_local and self._acceptor.listen_locally(path) else None
        self._paths = _Paths(local, path.with_name(f"{config.name}.sessions"))
        self._slots = SlotService(
            config.slot_count(), self._selector, follows_killed=pid_file.predecessor is not None
        )
        stack.callback(self._slots.close)
        self.starts = SessionStarts(self._selector)
        stack.callback(self.starts.close)
        self._users = UserFileWatch.of(config, self.publish)
        self.sessions = SessionRegistry(
            self._selector,
            self._slots,
            self.publish,
            self.starts.starter.request,
            has_accounts=config.has_accounts,
        )
        pool = Pool(
            kept, lambda: self._config, self._selector, self.starts.starter.request,
            own=lambda: (self._acceptor.cmd_port, self._slots.facts["total"]), removal=self._users.removal,
        )  # fmt: skip
        stack.callback(pool.close)
        self.sessions.members, self.sessions.on_members = pool.facts, pool.hand_out
        # Sessions of other accounts cannot return: they would have to prove what they say about themselves.
        returning = ReturningSessions(self._paths.sessions, self._selector, self._take_back)
        self.admission = Admission(
            lambda: self._config,
            self.sessions.users,
            begun=lambda: self.sessions.begun,
            sessions=lambda: self.sessions,
            admins=lambda: self._config.admins,
        )
        self.sessions.refusal = lambda user, *more, **how: (
            self._users.refusal(user) or self.admission.refusal(user, *more, **how)
        )
        self.sessions.removal = self._users.removal
        stack.callback(returning.close)
        endings = Endings()
        self._departures = Departures(endings, self._users)
        reloading = Reloading(config, read, self._apply)
        statistics = ServerStatistics(
            self.sessions, self._slots, self._about, self.admission.facts, lambda: self._config
        )
        control = self._make_control(endings, reloading, statistics, pool)
        stack.callback(control.close)
        others = (self._acceptor.look_after_path, returning.look_after_path, control.look_after_path)
        self._status = StatusPublisher(
            pid_file, self._record, others, manager, lambda: in_words(self.status())
        )
        duty = DutyKeeper(
            self.admission,
            self.sessions,
            self._slots,
            endings,
            serve=config.serve,
            stop=self._stop,
            awaits_ends=lambda: self.starts.awaits_ends,
        )
        self._parts = [
            LoopPart("hours", duty.step, self.admission.time_left),
            *self._loop_parts(returning),
            *control.loop_parts(),
            *statistics.loop_parts(),
            *pool.loop_parts(),
            StatusPage(config, self._selector, stack).loop_part(),
        ]
        self._stopping = ""
        # Before the status is announced: a reader may stop the daemon immediately.
        self._catch_signals(stack, reloading)

    def _accept(self, config: ServerConfig) -> Acceptor:
        logins = self._logins
        return Acceptor(config, self._selector, logins.arrive, self._hand_over, make_room=logins.make_room)

    def _apply(self, config: ServerConfig) -> list[dict[str, object]]:
        """Apply new settings; return the sessions that end because of them, with the reasons."""
        self._users.reconfigure(config)
        self._config = config
        self._logins.reconfigure(config)
        self._acceptor.reconfigure(config)
        self._slots.resize(config.slot_count())  # also if pserver ctl has changed it
        set_level(config.log_form().level)
        return self._departures.end(self.sessions)

    def _make_control(
        self, endings: Endings, reloading: Reloading, statistics: ServerStatistics, pool: Pool
    ) -> Control:
        def is_busy() -> bool:
            is_logging_in = any(session.is_logging_in for session in self.sessions)
            return is_logging_in or bool(len(self.starts)) or self.starts.awaits_ends

        server = Server(
            self.sessions, self._slots, self.admission, endings, self.status, reloading.reload, self._stop, is_busy,
            pool, statistics.document, statistics.questions.ask,
        )  # fmt: skip
        return Control(control_path(self._config.name), self._selector, server, lambda: self._config.admins)

    def _about(self) -> dict[str, object]:
        """Return the facts that identify this server."""
        ports = {"cmd_port": self._acceptor.cmd_port, "data_port": self._acceptor.data_port}
        return {"pid": os.getpid(), "name": self._config.name, **ports, **self._facts}

    def _record(self) -> dict[str, object]:
        """Return the facts that other processes need if the daemon is killed; see `StatusPublisher`."""
        config = self._config
        return {
            **self._about(),
            "socket": str(self._acceptor.socket) if self._acceptor.socket else None,
            "bind": list(config.addresses()),
            "use_tls": config.use_tls,
            "log_file": str(config.log_file) if config.log_file else None,
            "sessions": self.sessions.facts(),
        }

    def status(self) -> dict[str, object]:
        """Return the status that other processes may read."""
        return {
            **self._record(),
            "log_error": why_unwritten(),
            "slots": self._slots.facts,
            "users": self._users.facts(),
            "admission": self.admission.facts(),
            "members": self.sessions.members(),
        }

    def publish(self) -> None:
        """Write the status for other processes."""
        self._status.publish()

    def begin_log(self) -> None:
        """Log that the server is ready, and warnings about its options and users."""
        log.info(
            "server %s is ready on %s, %s",
            self._config.name,
            self._acceptor.where,
            "TLS-SRP" if self._config.use_tls else "WITHOUT encryption and login",
        )
        total, processors = self._slots.facts["total"], processor_count()
        if total > processors:
            log.warning("--slots %d: jobs will share the %d processors of this machine", total, processors)
        self._users.look()

    def run(self, lifeline: socket.socket | None) -> None:
        """Serve until asked to stop, then end the sessions."""
        if lifeline is not None:
            self._watch(lifeline, lambda: self._stop("its parent is gone"))
        while not self._stopping:
            self.turn()
        self._status.manager.stopping(self._stopping)
        self._logins.close()
        if detached := sum(bool(facts["detached"]) for facts in self.sessions.facts()):
            log.warning("stopping the server ends the detached jobs of %d session(s)", detached)
        self.sessions.end_all()
        log.info("server %s stops: %s", self._config.name, self._stopping)

    def turn(self) -> None:
        """Wait for an event or for due work, and handle it."""
        waits = [part.time_left() for part in self._parts]
        self._selector.call_ready(min((wait for wait in waits if wait is not None), default=None))
        for part in self._parts:
            part.step()

    def _loop_parts(self, returning: ReturningSessions) -> list[LoopPart]:
        acceptor, status = self._acceptor, self._status
        return [
            LoopPart("arrivals", acceptor.expire, acceptor.time_to_next_deadline),
            LoopPart("session starts", self.starts.step, self.starts.time_left),
            LoopPart("logins", self._logins.step, self._logins.time_left),
            LoopPart("slots", self._slots.step, self._slots.time_left),
            LoopPart("returning sessions", returning.step, returning.time_left),
            LoopPart("status", status.tend),
            LoopPart("service manager", status.manager.step, status.manager.time_left),
            LoopPart("users' file", self._users.step),
            LoopPart("old results", OldResults(lambda: self._config, self.starts.starter.request).step),
        ]

    # --- signals and listening ---

    def _catch_signals(self, stack: contextlib.ExitStack, reloading: Reloading) -> None:
        # A flag could miss a signal that comes just before the wait. Instead, the system writes it into this socket.
        ours, theirs = socket.socketpair()
        for sock in (stack.enter_context(ours), stack.enter_context(theirs)):
            sock.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno())
        stack.callback(signal.set_wakeup_fd, before)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: None))

        def hear() -> None:
            number = signal.Signals(ours.recv(1)[0])
            if number != signal.SIGHUP:
                self._stop(number.name)
                return
            self._status.manager.reloading()
            reloading.try_reload()
            self._status.manager.ready()

        self._watch(ours, hear)

    def _stop(self, reason: str) -> None:
        self._stopping = reason

    def _watch(self, sock: socket.socket, callback: Callable[[], object]) -> None:
        self._selector.register(sock, selectors.EVENT_READ, callback)

    def _take_back(self, control: socket.socket, facts: Returned, pidfd: int, ends: Sequence[int]) -> None:
        session = self.sessions.take_back(control, facts, pidfd, ends)
        self._departures.begin(session, facts.user, facts.salt or None)
        # The user may have been removed or changed while no daemon was running.
        self._departures.end([session])

    def _hand_over(self, pending: PendingConnection, preamble: Preamble) -> None:
        """Pass a connection on to its session."""
        reason = self.sessions.pass_on(preamble, pending.received, pending.sock)
        if reason:
            log.info("connection from %s closed: %s", pending.peer, reason)
        pending.sock.close()

    def _start_session(
        self,
        limits: LimitsOfSessions,
        pending: PendingConnection,
        proof_seconds: float,
        on_started: Callable[[Session], object],
        on_failed: Callable[[str], object],
        *,
        key: KeyFile,
    ) -> None:
        """Start a session process, which logs the client in; see `SessionStarts.start`."""
        config = self._config
        self._users.look()
        salt = self._users.salts.get(pending.user)
        settings = SessionSettings(
            auth_file=self._users.path,
            cmd_port=self._acceptor.cmd_port,
            data_port=self._acceptor.data_port,
            advertised=places_of(config.advertise, self._acceptor.cmd_port, self._acceptor.data_port),
            bind=list(config.addresses()),
            login_timeout=config.login_timeout,
            proof_timeout=proof_seconds,
            log_file=Path(config.log_file) if config.log_file else None,
            peer=pending.peer,
            user=pending.user,
            server_id=key.key.id,
            server_proof=key.key.prove(bytes(pending.received)).hex() if config.use_tls else "",
            salt=salt.hex() if salt else "",
            refusal=self._users.sharing(pending.user) or self.admission.refusal(pending.user),
            allow_users=list(config.allow_users),
            kept=config.kept_folder(),
            sessions_path=self._paths.sessions,
            limits=limits.of_session(config),
            orphan_timeout=config.orphan_timeout * 60,
            log_format=config.log_form().format,
            log_level=level_now(),
            local_path=self._paths.local,
            account=self._users.account_name(pending.user) if config.has_accounts else None,
        )

        def attend(started: Started) -> None:
            session = self.sessions.attend(started, pending.peer, settings.account and pending.user)
            self._departures.begin(session, pending.user, salt)
            on_started(session)
            self.publish()

        self.starts.start(pending.sock, settings, bytes(pending.received), attend, on_failed)

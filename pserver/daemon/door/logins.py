"""Clients between their ClientHello and the end of their login: they wait, get a session, or are refused.

`pserver.daemon.door.login_queue` decides which login is next, and `pserver.daemon.door.login_failures` which ones must
wait after failures.
"""

import contextlib
import logging
import math
import selectors
import time
from collections.abc import Callable

from pserver.config.server_config import ServerConfig
from pserver.daemon.door.arrivals import PendingConnection
from pserver.daemon.door.client_hello import Alert
from pserver.daemon.door.login_failures import LoginFailures
from pserver.daemon.door.login_queue import Login, LoginQueue
from pserver.daemon.held_session import LoginFailure, Session
from pserver.system import audit

log = logging.getLogger("pserver")

Waiting = Login[PendingConnection]

# Seconds; a client that would have to wait longer is refused, so it does not hold a descriptor.
_LONG_PAUSE = 5.0
# For one answer of the client and its computation: enough for a satellite link.
_DOUBTFUL_PROOF_SECONDS = 1.0
# In addition to the login's time limit: for its processes to start and end, and for an administrator's first request.
_GRACE_SECONDS = 10.0
_IS_OLD = (
    "a login was refused; if its password is correct, the users' file on this server is not the one from the machine "
    "where the user was created: compare the fingerprints that pserver status prints here and generate-srp-data "
    "--fingerprint prints there"
)
_LOCKED_OUT = "too many failed logins of this user from there"


class Logins:
    """The clients that want to log in.

    `selector`: the daemon's; each entry's data is a function to call. `start`: starts a session for a client, with the
    time limit for its proof in seconds; later, it calls the first function with the session, or the second with the
    reason of a failure. It raises `OSError` if it cannot.
    """

    def __init__(
        self,
        config: ServerConfig,
        selector: selectors.BaseSelector,
        start: Callable[
            [PendingConnection, float, Callable[[Session], object], Callable[[str], object]], object
        ],
    ) -> None:
        self._config = config
        self._selector = selector
        self._start = start
        self._failures = LoginFailures(config.max_failures)
        self._queue: LoginQueue[PendingConnection] = LoginQueue(
            config.startups(), config.login_processes, config.login_timeout, self._failures.standing
        )
        self._sessions: dict[Waiting, tuple[Session, float]] = {}  # with the times at which to kill them
        self._paused_until = math.inf  # when the first of the delayed logins may start

    def reconfigure(self, config: ServerConfig) -> None:
        """Apply new settings; logins in progress keep the old ones."""
        self._config = config
        self._failures.reconfigure(config.max_failures)
        self._queue.reconfigure(config.startups(), config.login_processes, config.login_timeout)

    def arrive(self, pending: PendingConnection) -> None:
        """Take over a connection that has named its user."""
        if self._pause(pending) > _LONG_PAUSE:
            self._send_away(pending, _LOCKED_OUT, Alert.ACCESS_DENIED)
            return
        login, refused = self._queue.add(pending, pending.source.group, pending.user)
        # The client must wait for an answer. If it sends data, or closes, it has gone or is not a client of pserver.
        self._selector.register(pending.sock, selectors.EVENT_READ, lambda: self._hear(login))
        for other in refused:
            self._turn_away(other, "too many clients want to log in")

    def _pause(self, pending: PendingConnection) -> float:
        return self._failures.pause(pending.source.group, pending.user)

    def _hear(self, login: Waiting) -> None:
        self._queue.remove(login)
        log.info("connection from %s closed: it did not wait for its login", login.client.peer)
        self._close(login.client)

    def _close(self, pending: PendingConnection) -> None:
        self._selector.unregister(pending.sock)
        pending.sock.close()

    def _turn_away(self, login: Waiting, reason: str, alert: Alert = Alert.INTERNAL_ERROR) -> None:
        self._selector.unregister(login.client.sock)
        self._send_away(login.client, reason, alert)

    def _send_away(
        self, pending: PendingConnection, reason: str, alert: Alert = Alert.INTERNAL_ERROR
    ) -> None:
        audit.refused(pending.peer, pending.user, reason)
        if self._config.use_tls:
            with contextlib.suppress(OSError):
                pending.sock.send(alert.record())
        pending.sock.close()

    def make_room(self) -> bool:
        """Refuse a waiting login because its descriptor is needed; return whether there was one."""
        login = self._queue.shed()
        if login is not None:
            self._turn_away(login, "too many connections")
        return login is not None

    def step(self) -> None:
        """Start the logins whose turn it is, and forget logins that have ended."""
        for login in self._queue.expire():
            self._turn_away(login, f"timed out after {self._config.login_timeout:g} s waiting for its turn")
        now = time.monotonic()
        for login, (session, ends_by) in list(self._sessions.items()):
            if session.is_logging_in and ends_by <= now:
                self._give_up(login, session)
            if not session.is_logging_in:
                del self._sessions[login]
                self._queue.end(login)
                self._count(login, session)
        self._paused_until = math.inf
        while (turn := self._queue.take(self._may_start)) is not None:
            self._begin(turn)

    def _give_up(self, login: Waiting, session: Session) -> None:
        """Kill a session that has not ended its login in time, to free its place for other logins."""
        reason = "its process has neither admitted nor refused the client in time, and is killed"
        log.error("the login of session %d from %s hangs: %s", session.pid, session.peer, reason)
        audit.failed_login(session.peer, login.user, reason)
        session.failure = LoginFailure(login.user, reason, is_refused=False)
        session.kill_all()

    def _count(self, login: Waiting, session: Session) -> None:
        if session.user is not None or (session.failure is not None and session.failure.has_proved):
            self._failures.succeed(login.source, login.user)
        elif session.failure is not None and session.failure.is_refused:
            self._failures.fail(login.source, login.user)
            log.info(_IS_OLD)
            if self._pause(login.client) > _LONG_PAUSE:
                for other in self._queue.remove_all(login.source, login.user):
                    self._turn_away(other, _LOCKED_OUT, Alert.ACCESS_DENIED)
        else:
            self._failures.leave(login.source, login.user)

    def _may_start(self, login: Waiting) -> bool:
        pause = self._pause(login.client)
        if pause:
            self._paused_until = min(self._paused_until, time.monotonic() + pause)
        running = self._queue.running_users(login.source)
        return not pause and self._failures.may_join(login.source, login.user, running)

    def _begin(self, login: Waiting) -> None:
        pending = login.client
        self._selector.unregister(pending.sock)  # now its session reads from it

        patience = self._config.login_timeout + _GRACE_SECONDS

        def begun(session: Session) -> None:
            self._sessions[login] = session, time.monotonic() + patience

        def failed(why: str) -> None:
            self._queue.end(login)
            self._send_away(pending, f"cannot start a session: {why}")

        try:
            self._start(pending, self._proof_seconds(login), begun, failed)
        except OSError as error:
            failed(str(error))
        except BaseException:  # a bug of ours must not block the place forever
            failed("a fault in the server")
            raise

    def _proof_seconds(self, login: Waiting) -> float:
        """Return the time limit for a client's proof of its password: shorter for a doubtful one while others wait."""
        longest = self._config.proof_timeout
        if self._queue.is_anybody_waiting and self._queue.is_doubtful(login.source, login.user):
            return min(longest, _DOUBTFUL_PROOF_SECONDS)
        return longest

    def time_left(self) -> float | None:
        """Return the seconds until `step` has something to do without an event; ``None`` for never."""
        due = min((ends_by for _, ends_by in self._sessions.values()), default=math.inf)
        first = min(due, self._paused_until, self._queue.next_deadline() or math.inf)
        return None if first == math.inf else max(0.0, first - time.monotonic())

    def close(self) -> None:
        """Close the waiting connections."""
        for login in self._queue.clear():
            self._close(login.client)

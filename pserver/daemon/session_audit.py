"""Log lines for failed logins and for ended sessions."""

import logging
import time

from pserver.daemon.held_session import LoginFailure, Session
from pserver.system import audit
from pserver.system.processes import describe_exit
from srp_tools.credentials import is_member

log = logging.getLogger("pserver")


def log_failure(peer: str, failure: LoginFailure) -> None:
    """Log a login that failed, or that was refused although the password was right."""
    if failure.has_proved:
        audit.refused(peer, failure.user, failure.reason)
    else:
        audit.failed_login(peer, failure.user, audit.REFUSED if failure.is_refused else failure.reason)


def log_request_login(session: Session) -> None:
    """Log that a user has logged in for requests only. Members log in often, so the pool logs only their news."""
    if not is_member(session.user or ""):
        audit.login(session.peer, session.user or "", session.pid, 0, "control")


def log_end(session: Session, code: int | None) -> None:
    """Log that a session has ended; `code`: its exit code, if it is known."""
    how = "" if code is None else f" ({describe_exit(code)})"
    if is_member(session.user or ""):
        log.debug("session %d of %s ended%s", session.pid, session.peer, how)
        return
    if session.user is not None:
        # A session that was killed has not reported a reason.
        ending = session.how or f"its process has ended{how}"
        counts = [use.counts for use in session.usage.values()]
        sums = [sum(each) for each in zip(*counts, strict=True)] or [0, 0, 0, 0]
        seconds = time.time() - session.since
        audit.session_end(session.peer, session.user, session.pid, usage=sums, seconds=seconds, how=ending)
    log.info("session %d of %s ended%s", session.pid, session.peer, how)

"""The logins for requests only, without engines: each has its own processes, so their number is limited.

They do not count as sessions or towards session limits, and a user needs no rights for one. If there are too many, the
login that has been silent longest ends; a client that still needs it logs in again. A login for a single request ends
by itself after the answer, unless its client does not read the answer. So it counts towards the limit of its user only
after some seconds, and many servers of a pool can announce themselves at the same time.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pserver.daemon.control.endings import Endings
from pserver.daemon.held_session import Session

MOST_OF_USER = 4  # such as `pstat --watch` in four terminals
MOST = 32
END_SECONDS = 5.0  # for a login for a single request to end by itself


class _Login(NamedTuple):
    session: Session
    counts_from: float  # when it starts to count towards the limit of its user


class ControlLogins:
    """The logins for requests of one server; `endings`: ends those that exceed a limit."""

    def __init__(self, endings: Endings, clock: Callable[[], float] = time.monotonic) -> None:
        self._endings = endings
        self._clock = clock
        self._logins: list[_Login] = []  # in the order of their last requests

    def hear(self, session: Session, *, stays: bool) -> None:
        """Record a request of a session, and end the logins that now exceed a limit.

        `stays`: whether the login continues after the answer.
        """
        now = self._clock()
        others = [each for each in self._logins if not each.session.has_ended and each.session is not session]
        own = [each for each in others if each.session.user == session.user and each.counts_from <= now]
        self._end(others, own[: max(0, len(own) + 1 - MOST_OF_USER)], f"one user has {MOST_OF_USER} logins")
        self._end(others, others[: max(0, len(others) + 1 - MOST)], f"a server has {MOST} logins")
        self._logins = [*others, _Login(session, now if stays else now + END_SECONDS)]

    def _end(self, others: list[_Login], ended: Sequence[_Login], limit: str) -> None:
        for login in ended:
            others.remove(login)
            for node in login.session.nodes:
                with contextlib.suppress(OSError):  # it is just ending
                    node.control.shutdown(socket.SHUT_WR)
            why = f"{limit} at most for requests, and this login has been silent longest"
            self._endings.end(login.session, why)

"""The logins that only ask for something: each has processes of its own, so there are few of them at once.

They count neither as sessions nor for the limits of these, and a user needs no rights for one. Where there is one too
many, the one that has been silent for longest ends; a client that still needs it logs in again. One that has its only
answer ends by itself, unless its client does not take it: it counts for the limit of its user after some seconds. So
many servers of a pool can announce themselves at once.
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
END_SECONDS = 5.0  # for one that ends by itself


class _Login(NamedTuple):
    session: Session
    counts_from: float  # for the limit of its user


class ControlLogins:
    """Those of one server that have asked for something; `endings`: ends one that is too many."""

    def __init__(self, endings: Endings, clock: Callable[[], float] = time.monotonic) -> None:
        self._endings = endings
        self._clock = clock
        self._logins: list[_Login] = []  # the last one to ask at the end

    def hear(self, session: Session, *, stays: bool) -> None:
        """Record that a session asks for something now; end what is too many with it.

        `stays`: whether it lasts after the answer.
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
                with contextlib.suppress(OSError):  # it ends just now
                    node.control.shutdown(socket.SHUT_WR)
            why = f"{limit} at most that only ask, and this one was silent for longest"
            self._endings.end(login.session, why)

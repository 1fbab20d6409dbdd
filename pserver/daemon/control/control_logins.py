"""The logins that only ask for something: each has processes of its own, so there are few of them at once.

They count neither as sessions nor for the limits of these, and a user needs no rights for one. Where there is one too
many, the one that has been silent for longest ends; a client that still needs it logs in again.
"""

import contextlib
import socket
from collections.abc import Sequence

from pserver.daemon.control.endings import Endings
from pserver.daemon.held_session import Session

MOST_OF_USER = 4  # such as `pstat --watch` in four terminals
MOST = 32


class ControlLogins:
    """Those of one server that have asked for something; `endings`: ends one that is too many."""

    def __init__(self, endings: Endings) -> None:
        self._endings = endings
        self._heard: list[Session] = []  # the last one to ask at the end

    def hear(self, session: Session) -> None:
        """Record that a session asks for something now, which lasts; end what is too many with it."""
        others = [each for each in self._heard if not each.has_ended and each is not session]
        own = [each for each in others if each.user == session.user]
        self._end(others, own[: max(0, len(own) + 1 - MOST_OF_USER)], f"one user has {MOST_OF_USER} logins")
        self._end(others, others[: max(0, len(others) + 1 - MOST)], f"a server has {MOST} logins")
        self._heard = [*others, session]

    def _end(self, others: list[Session], ended: Sequence[Session], limit: str) -> None:
        for session in ended:
            others.remove(session)
            for node in session.nodes:
                with contextlib.suppress(OSError):  # it ends just now
                    node.control.shutdown(socket.SHUT_WR)
            self._endings.end(session, f"{limit} at most that only ask, and this one was silent for longest")

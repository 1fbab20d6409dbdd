"""Exclusive use of a server by one session: who may have it and when, and the messages to other users.

It ends with the session, or when its client detaches and leaves jobs there. A session whose client has vanished stays
exclusive for as long as the client may come back (``--orphan-timeout``). A user gets exclusive use only if no other
sessions exist. An administrator can end the session.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

_SHOWN = 5  # sessions listed in an error


class Session(Protocol):
    """See `pserver.daemon.held_session.Session`."""

    user: str | None
    network: str | None
    since: float

    @property
    def pid(self) -> int: ...  # noqa: D102 - documented there
    @property
    def is_exclusive(self) -> bool: ...  # noqa: D102
    @property
    def is_control(self) -> bool: ...  # noqa: D102
    @property
    def is_detached(self) -> bool: ...  # noqa: D102


def why_excluded(user: str, network: str, sessions: Iterable[Session]) -> str:
    """Return why a user gets no session because another one uses the server exclusively; empty if none does.

    `network`: the network of the new session; the exclusive user may open further sessions for the same network.
    Empty: not known yet.
    """
    for other in _others(user, network, sessions):
        if other.is_exclusive and not other.is_detached and (network or other.user != user):
            return f"{_named(other)} uses it exclusively"
    return ""


def why_not_alone(user: str, network: str, sessions: Iterable[Session], *, is_allowed: bool) -> str:
    """Return why a user cannot use the server exclusively for one session; empty if that is possible.

    `is_allowed`: whether the user may do that at all.
    """
    if not is_allowed:
        return f"{user} may not use it exclusively (exclusive=True): its administrator has not set --allow-exclusive"
    others = _others(user, network, sessions)
    if not others:
        return ""
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return f"{user} cannot use it exclusively: it has other sessions: {', '.join(map(_named, others[:_SHOWN]))}{more}"


def _others(user: str, network: str, sessions: Iterable[Session]) -> Sequence[Session]:
    """Return the sessions that have logged in for other networks; the networks of different users always differ."""
    return [
        each
        for each in sessions
        if each.user is not None
        and not each.is_control
        and (not network or (each.user, each.network) != (user, network))
    ]


def _named(session: Session) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(session.since))
    return f"{session.user} (session {session.pid} since {since})"

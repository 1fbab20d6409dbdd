"""A server for one session alone: who may have that, when, and what others read meanwhile.

It ends with the session, and with its client when that leaves detached jobs there. A session whose client has vanished
keeps it for as long as the client may come back (``--orphan-timeout``). Nobody gets it while others are there, and an
administrator can end the session.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

_SHOWN = 5  # sessions in an error


class Session(Protocol):
    """See `pserver.daemon.held_session.Session`."""

    user: str | None
    network: str | None
    since: float

    @property
    def pid(self) -> int: ...  # noqa: D102 - see there
    @property
    def is_exclusive(self) -> bool: ...  # noqa: D102
    @property
    def is_control(self) -> bool: ...  # noqa: D102
    @property
    def is_detached(self) -> bool: ...  # noqa: D102


def why_excluded(user: str, network: str, sessions: Iterable[Session]) -> str:
    """Return why a user gets no session because another one has the server for itself; empty if none has.

    `network`: for which the session would be; the one that has the server may have further ones. Empty: not known yet.
    """
    for other in _others(user, network, sessions):
        if other.is_exclusive and not other.is_detached and (network or other.user != user):
            return f"{_named(other)} has it for itself"
    return ""


def why_not_alone(user: str, network: str, sessions: Iterable[Session], *, is_allowed: bool) -> str:
    """Return why a user does not get the server for one session alone; empty if that is possible.

    `is_allowed`: whether the user may have it at all.
    """
    if not is_allowed:
        return (
            f"{user} may not have it alone (exclusive=True): its administrator has not set --allow-exclusive"
        )
    others = _others(user, network, sessions)
    if not others:
        return ""
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return (
        f"{user} cannot have it alone while others are there: {', '.join(map(_named, others[:_SHOWN]))}{more}"
    )


def _others(user: str, network: str, sessions: Iterable[Session]) -> Sequence[Session]:
    """Return the sessions that have logged in for other networks; each user has networks of their own."""
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

"""Ends sessions whose users could no longer log in as they did, when the server reads its settings again.

A login counts for the whole life of a session. So for each session, the daemon records the salt of its user's verifier,
which changes with the verifier. It records the salt before the login reads the file, so the record is never too new.
"""

from collections.abc import Iterable
from typing import NamedTuple

from pserver.daemon.control.endings import Endings
from pserver.daemon.held_session import Session
from pserver.daemon.user_file import UserFileWatch


class _Begun(NamedTuple):
    user: str  # as named by the client
    salt: bytes | None
    account: str  # the name of the user's account


class Departures:
    """The records about the users of sessions; `users`: the present users."""

    def __init__(self, endings: Endings, users: UserFileWatch) -> None:
        self._endings = endings
        self._users = users
        self._begun: dict[Session, _Begun] = {}

    def begin(self, session: Session, user: str, salt: bytes | None) -> None:
        """Record a session that starts its login, or returns; `salt`: of its user's verifier at that time."""
        self._begun = {each: begun for each, begun in self._begun.items() if not each.has_ended}
        self._begun[session] = _Begun(user, salt, self._users.account_name(user))

    def end(self, sessions: Iterable[Session]) -> list[dict[str, object]]:
        """End sessions of users who were removed or have a new verifier or account; return them with the reasons."""
        ended: list[dict[str, object]] = []
        for session in list(sessions):
            begun = self._begun.get(session)
            # A session that is still logging in is checked later, by `UserFileWatch.refusal`.
            if begun is None or session.user is None:
                continue
            if why := self._why(begun):
                self._endings.end(session, why)
                ended.append({"session": session.pid, "user": begun.user, "why": why})
        return ended

    def _why(self, begun: _Begun) -> str:
        """Return why a user may not stay; empty if the user may."""
        user, before, account = begun
        if why := self._users.removal(user):
            return why
        if before is not None and self._users.salts.get(user) != before:
            return "the password of this user was changed; log in again"
        if account != self._users.account_name(user):
            return "this user now has another account on the server (--account-map); log in again"
        return ""

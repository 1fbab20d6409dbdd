"""Ends the sessions of users who may not log in any more as they did: when the server reads its settings again.

A session keeps for its life what its login has proved. So the daemon records with each the salt of the verifier of its
user, which another verifier does not have: at a login the file is read after that, so the record is never too new.
"""

from collections.abc import Iterable
from typing import NamedTuple

from pserver.daemon.control.endings import Endings
from pserver.daemon.held_session import Session
from pserver.daemon.user_file import UserFileWatch


class _Begun(NamedTuple):
    user: str  # as the client has named it
    salt: bytes | None
    account: str  # the name of the user's


class Departures:
    """What is known of the users of sessions; `users`: those of now."""

    def __init__(self, endings: Endings, users: UserFileWatch) -> None:
        self._endings = endings
        self._users = users
        self._begun: dict[Session, _Begun] = {}

    def begin(self, session: Session, user: str, salt: bytes | None) -> None:
        """Record a session whose login begins, or that comes back; `salt`: that of its user's verifier then."""
        self._begun = {each: begun for each, begun in self._begun.items() if not each.has_ended}
        self._begun[session] = _Begun(user, salt, self._users.account_name(user))

    def end(self, sessions: Iterable[Session]) -> list[dict[str, object]]:
        """End the sessions of users who are gone, or have another verifier or account; return them with the reasons."""
        ended: list[dict[str, object]] = []
        for session in list(sessions):
            begun = self._begun.get(session)
            # One that is logging in has proved nothing yet; `UserFileWatch.refusal` is asked when it has.
            if begun is None or session.user is None:
                continue
            if why := self._why(begun):
                self._endings.end(session, why)
                ended.append({"session": session.pid, "user": begun.user, "why": why})
        return ended

    def _why(self, begun: _Begun) -> str:
        """Return why a user may not stay; empty if there is no reason."""
        user, before, account = begun
        if why := self._users.removal(user):
            return why
        if before is not None and self._users.salts.get(user) != before:
            return "the password of this user was changed; log in again"
        if account != self._users.account_name(user):
            return "this user has another account on the server now (--account-map); log in again"
        return ""

"""The administration of a running daemon: its control socket, the commands, and the ending of single sessions."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from pserver.daemon.callback_selector import CallbackSelector, LoopPart
from pserver.daemon.control.control_logins import ControlLogins
from pserver.daemon.control.control_socket import Asker, ControlSocket, answered
from pserver.daemon.control.words import ControlWords, Server
from pserver.daemon.held_session import Reply, Session
from pserver.system import audit
from srp_tools.credentials import is_member
from srp_tools.errors import ConfigurationError

Facts = Mapping[str, object]


class Control:
    """The administration of one daemon.

    `path`: of its control socket. `selector`: the daemon's. `server`: the parts to administer. `admins`: returns the
    users who may administer the server from other machines.
    """

    def __init__(
        self,
        path: Path,
        selector: CallbackSelector,
        server: Server,
        admins: Callable[[], Collection[str]],
    ) -> None:
        self._endings = server.endings
        self._logins = ControlLogins(server.endings)
        self._questions = server.questions
        self._admins = admins
        self._sessions = server.sessions
        self._pool = server.pool
        server.sessions.on_request = self.answer_session
        self._words = ControlWords(server)
        self._socket = ControlSocket(path, selector, self._words.answer)
        self.look_after_path = self._socket.look_after_path
        self.close = self._socket.close

    def answer_session(self, session: Session, request: Mapping[str, object], reply: Reply) -> None:
        """Answer a request of a user who has logged in for requests only.

        Users who are not administrators can ask for the statistics, which may take a moment, see `Questions`, and end
        their own sessions. A member gets one answer for each login.
        """
        user = session.user or ""
        self._logins.hear(session, stays=request.get("stay") is True and not is_member(user))
        if is_member(user):
            reply(json.dumps({**self._pool.answer_member(request, user, session.peer), "is_last": True}))
        elif request.get("do") == "statistics":
            self._ask(user, request, reply)
        elif user in self._admins() or self._ends_own(request, user):
            reply(json.dumps(answered(request, Asker(session.peer, user), self._answer_remotely)))
        else:
            audit.control(session.peer, user, request, "refused: the user is not an administrator")
            why = f"the user {user!r} is not among the administrators of the server (--admins)"
            reply(json.dumps({"error": why, "is_last": True}))

    def _ask(self, user: str, request: Mapping[str, object], reply: Reply) -> None:
        try:
            self._questions(user, request, lambda body: reply(f'{{"ok": {body}}}'))
        except ConfigurationError as error:
            reply(json.dumps({"error": str(error)}))

    def _ends_own(self, request: Mapping[str, object], user: str) -> bool:
        """Whether a request is to end one of the user's own sessions, by its number."""
        is_own = any(
            str(each.pid) == request.get("what") and each.user == user and not each.is_control
            for each in self._sessions
        )
        return request.get("do") == "kill" and bool(user) and is_own

    def _answer_remotely(self, request: Mapping[str, object], asker: Asker) -> Facts:
        return self._words.answer(request, asker, is_remote=True)

    def loop_parts(self) -> list[LoopPart]:
        """Return the parts for the daemon's loop."""
        return [
            LoopPart("requests", self._socket.step, self._socket.time_left),
            LoopPart("ends of sessions", self._endings.step, self._endings.time_left),
            LoopPart("release", self._words.step, lambda: None),
        ]

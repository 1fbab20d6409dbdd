"""The words that the daemon understands at its control socket, and from administrators who have logged in.

``status``, ``sessions``, ``members``, ``statistics``, ``kill``, ``slots``, ``drain``, ``resume``, ``release``,
``reload``, ``log-level``, ``join``, ``leave``, ``forget`` and ``stop``. Each that changes something is a line in the
log, with who has asked for it and what came of it; all are, if they come from elsewhere. Statistics for others than
this account are not asked for here, see `pserver.daemon.control.questions`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from pserver.config.log_options import LEVELS
from pserver.config.server_config import MOST_SLOTS
from pserver.daemon.control.control_socket import Asker
from pserver.daemon.control.endings import Endings
from pserver.daemon.control.questions import Question
from pserver.daemon.control.session_table import session_rows
from pserver.daemon.held_session import Reply, Session
from pserver.daemon.session_registry import SessionRegistry
from pserver.daemon.slot_service import SlotService
from pserver.system import audit
from pserver.system.log import set_level
from srp_tools.errors import ConfigurationError, ParallelError

_ASKING = {"status", "sessions", "members", "statistics"}  # change nothing

Facts = Mapping[str, object]


class Duty(Protocol):
    """What keeps newcomers out, see `pserver.duty.admission`."""

    def drain(self, *, finishes_jobs: bool = False) -> None:
        """Accept no more sessions, and start no jobs but, if wanted, those of sessions that are there."""

    def resume(self) -> None:
        """Let newcomers in again."""


class Neighbours(Protocol):
    """What knows other servers, see `pserver.daemon.pool.pool`."""

    @property
    def words(self) -> Mapping[str, Callable[[Mapping[str, Any]], Facts]]:
        """What administrators may ask it for."""

    def answer_member(self, request: Mapping[str, Any], user: str, peer: str) -> Facts:
        """Do what another server asks for, which has logged in as a member."""


class Server(NamedTuple):
    """What the words act on."""

    sessions: SessionRegistry
    slots: SlotService
    duty: Duty
    endings: Endings
    status: Callable[[], Facts]
    reload: Callable[[], Facts]
    stop: Callable[[str], object]  #: takes the reason
    is_busy: Callable[[], bool]  #: whether a login, or the start of a session, is under way
    pool: Neighbours
    #: Returns the statistics that a request is for, as an administrator sees them.
    statistics: Callable[[Question], Facts] = lambda _: {}
    #: Has a user's question for the statistics answered, perhaps after a moment; see `Questions.ask`.
    questions: Callable[[str, Mapping[str, object], Reply], object] = lambda *_: None


class ControlWords:
    """Does what is asked for."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._is_releasing = ""  # why the server ends with its last session; empty: it does not
        self._words: dict[str, Callable[[Mapping[str, Any], Asker], Facts]] = {
            "status": lambda *_: server.status(),
            "sessions": lambda *_: {"sessions": session_rows(server.sessions, server.slots)},
            "statistics": lambda request, _: server.statistics(Question.read(request)),
            "kill": self._kill,
            "slots": self._slots,
            "drain": self._drain,
            "resume": self._resume,
            "release": self._release,
            "reload": lambda *_: server.reload(),
            "log-level": self._log_level,
            **{word: _without_asker(answer) for word, answer in server.pool.words.items()},
            "stop": self._stop,
        }

    def answer(self, request: Mapping[str, Any], asker: Asker, *, is_remote: bool = False) -> Facts:
        """Do what a request says; return the facts that answer it.

        Raises `ConfigurationError` if it cannot be done; nothing has changed.
        """
        word = request.get("do")
        try:
            if not isinstance(word, str) or word not in self._words:
                raise ConfigurationError(
                    f"there is no word {word!r:.50}; there are: {', '.join(self._words)}"
                )
            facts = self._words[word](request, asker)
        except (ParallelError, OSError) as error:
            audit.control(asker.peer, asker.user, request, f"refused: {error}")
            raise
        if word not in _ASKING or is_remote:
            audit.control(asker.peer, asker.user, request, "done")
        return facts

    def step(self) -> None:
        """End the server if it is to end with its last session, and that has gone."""
        if self._is_releasing and not self._server.sessions.users() and not self._server.is_busy():
            self._server.stop(self._is_releasing)

    def _kill(self, request: Mapping[str, Any], asker: Asker) -> Facts:
        what = _text(request, "what", "give the number of a session, or a user")
        found = [each for each in self._server.sessions if str(each.pid) == what]
        found = found or [each for each in self._server.sessions if each.user == what and not each.is_control]
        if not found:
            raise ConfigurationError(f"there is no session {what!r:.100}, and none of such a user")
        for session in found:
            who = "its user" if asker.user == session.user else "an administrator of the server"
            self._server.endings.end(session, f"{who} ({asker.user}) ended this session")
        return {"killed": [_named(session) for session in found]}

    def _slots(self, request: Mapping[str, Any], _: Asker) -> Facts:
        total = request.get("total")
        if not isinstance(total, int) or isinstance(total, bool) or not 0 <= total <= MOST_SLOTS:
            raise ConfigurationError(f"slots {total!r:.50}: give a number from 0 to {MOST_SLOTS}")
        before = self._server.slots.facts["total"]
        self._server.slots.resize(total)
        return {"before": before, **self._server.slots.facts}

    def _drain(self, *_: object) -> Facts:
        self._server.duty.drain()
        return {"sessions": len(self._server.sessions.users())}

    def _resume(self, *_: object) -> Facts:
        self._is_releasing = ""
        self._server.duty.resume()
        return {"sessions": len(self._server.sessions.users())}

    def _release(self, _: Mapping[str, Any], asker: Asker) -> Facts:
        self._is_releasing = f"its last session has ended, as {asker} asked for"
        self._server.duty.drain(finishes_jobs=True)
        return {"sessions": len(self._server.sessions.users())}

    def _log_level(self, request: Mapping[str, Any], _: Asker) -> Facts:
        level = _text(request, "level", f"give one of {', '.join(LEVELS)}").lower()
        if level not in LEVELS:
            raise ConfigurationError(f"log-level {level!r:.50}: give one of {', '.join(LEVELS)}")
        set_level(level)
        return {"level": level}

    def _stop(self, request: Mapping[str, Any], asker: Asker) -> Facts:
        ended = session_rows(self._server.sessions, self._server.slots)
        detached = [row for row in ended if row["detached"]]
        if detached and request.get("force") is not True:
            named = "; ".join(f"session {row['session']} of {row['user']}" for row in detached)
            raise ConfigurationError(
                f"it runs detached jobs: {named}. Use release, which ends the server after them, or lose them with "
                "quit (results that are ready stay)"
            )
        self._server.stop(f"{asker} asked for it")
        return {"ended": ended}


def _without_asker(
    answer: Callable[[Mapping[str, Any]], Facts],
) -> Callable[[Mapping[str, Any], Asker], Facts]:
    return lambda request, _: answer(request)


def _text(request: Mapping[str, Any], key: str, hint: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{request['do']}: {hint}")
    return value


def _named(session: Session) -> dict[str, object]:
    return {"session": session.pid, "user": session.user}

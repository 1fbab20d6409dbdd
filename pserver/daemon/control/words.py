"""The commands that the daemon accepts on its control socket, and from administrators who have logged in.

``status``, ``sessions``, ``members``, ``statistics``, ``kill``, ``slots``, ``drain``, ``resume``, ``release``,
``reload``, ``log-level``, ``join``, ``leave``, ``forget`` and ``stop``. The log has a line for each command that
changes something, and for each command from another machine, with the sender and the outcome.
`pserver.daemon.control.questions` handles questions for the statistics from other accounts.
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

_ASKING = {"status", "sessions", "members", "statistics"}  # the commands that change nothing

Facts = Mapping[str, object]


class Duty(Protocol):
    """Opens and closes the server for new sessions, see `pserver.duty.admission`."""

    def drain(self, *, finishes_jobs: bool = False) -> None:
        """Accept no more sessions and start no more jobs; with `finishes_jobs`, still start jobs of open sessions."""

    def resume(self) -> None:
        """Accept sessions again."""


class Neighbours(Protocol):
    """Knows the other servers of a pool, see `pserver.daemon.pool.pool`."""

    @property
    def words(self) -> Mapping[str, Callable[[Mapping[str, Any]], Facts]]:
        """The commands of administrators for the pool."""

    def answer_member(self, request: Mapping[str, Any], user: str, peer: str) -> Facts:
        """Handle a request of another server that has logged in as a member."""


class Server(NamedTuple):
    """The parts of the server that the commands act on."""

    sessions: SessionRegistry
    slots: SlotService
    duty: Duty
    endings: Endings
    status: Callable[[], Facts]
    reload: Callable[[], Facts]
    stop: Callable[[str], object]  #: takes the reason
    is_busy: Callable[[], bool]  #: whether a login or the start of a session is in progress
    pool: Neighbours
    #: Returns the statistics for a question, as an administrator sees them.
    statistics: Callable[[Question], Facts] = lambda _: {}
    #: Answers a user's question for the statistics, possibly later; see `Questions.ask`.
    questions: Callable[[str, Mapping[str, object], Reply], object] = lambda *_: None


class ControlWords:
    """Executes the commands."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._is_releasing = ""  # why the server stops after its last session; empty: it does not
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
        """Execute a request, and return the facts of its answer.

        Raises `ConfigurationError` if that is not possible; nothing has changed then.
        """
        word = request.get("do")
        try:
            if not isinstance(word, str) or word not in self._words:
                raise ConfigurationError(
                    f"there is no command {word!r:.50}; give one of {', '.join(self._words)}"
                )
            facts = self._words[word](request, asker)
        except (ParallelError, OSError) as error:
            audit.control(asker.peer, asker.user, request, f"refused: {error}")
            raise
        if word not in _ASKING or is_remote:
            audit.control(asker.peer, asker.user, request, "done")
        return facts

    def step(self) -> None:
        """Stop the server if it has been released and its last session has ended."""
        if self._is_releasing and not self._server.sessions.users() and not self._server.is_busy():
            self._server.stop(self._is_releasing)

    def _kill(self, request: Mapping[str, Any], asker: Asker) -> Facts:
        what = _text(request, "what", "give the number of a session or the name of a user")
        found = [each for each in self._server.sessions if str(each.pid) == what]
        found = found or [each for each in self._server.sessions if each.user == what and not each.is_control]
        if not found:
            raise ConfigurationError(
                f"there is no session {what!r:.100}, and no user {what!r:.100} with a session"
            )
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
        self._is_releasing = f"its last session has ended, as requested by {asker}"
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
                f"it runs detached jobs: {named}. Use release to stop the server after them, or quit to lose them "
                "(finished results stay)"
            )
        self._server.stop(f"requested by {asker}")
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

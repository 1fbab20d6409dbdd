"""Users' requests for the statistics: there may be more than the daemon has time to answer one by one.

Making a document takes milliseconds, in the thread that accepts all connections. So each user gets a limited share of
that time, however many sessions and logins ask, and so do all users together. After an answer, the next answer for the
same user comes after `_REST` times the time that it took, and for other users after `_REST_OF_ALL` times. Meanwhile,
the same question gets the same answer again, and other questions wait. Users take turns, and all questions of one user
are answered together, so users do not wait longer because another user asks more.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pserver.daemon.held_session import Reply
from srp_tools.errors import ConfigurationError
from srp_tools.rules.numbers import is_finite

_REST = 10
_REST_OF_ALL = 3
_MOST = 256  # waiting questions of one user


class Question(NamedTuple):
    """The wanted parts of the document."""

    is_brief: bool = False  #: without samples and timeline
    #: The time from which on samples and timeline are wanted; the answer may have older ones.
    since: float = -math.inf

    @classmethod
    def read(cls, request: Mapping[str, Any]) -> "Question":
        """Parse a request, and ignore invalid parts.

        Examples
        --------
        >>> Question.read({"since": 10**400}), Question.read({"since": 5, "brief": True})
        (Question(is_brief=False, since=-inf), Question(is_brief=True, since=-inf))
        """
        since, is_brief = request.get("since"), request.get("brief") is True
        return cls(is_brief, float(since) if is_finite(since) and not is_brief else -math.inf)


class _Answer(NamedTuple):
    since: float
    body: str
    until: float  # when it expires


class Questions:
    """The requests of all users for the statistics.

    `make`: returns the document for a user, in JSON. `clock`: returns the time in seconds.
    """

    def __init__(
        self, make: Callable[[str, Question], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._clock = clock
        self._answers: dict[tuple[str, bool], _Answer] = {}  # by user, and whether it is brief
        self._rests: dict[str, float] = {}  # when a user may have another answer
        self._all_rest = -math.inf
        self._waiting: dict[str, list[tuple[Question, Reply]]] = {}  # by user, in the order of turns

    def ask(self, user: str, request: Mapping[str, Any], reply: Reply) -> None:
        """Answer a user's question: call `reply` with the document, immediately or later in `step`.

        Raises `ConfigurationError` if too many questions of the user are waiting.
        """
        question = Question.read(request)
        known = self._answers.get((user, question.is_brief))
        waiting = self._waiting.setdefault(user, [])
        if known is not None and self._clock() < known.until and known.since <= question.since:
            reply(known.body)
        elif len(waiting) < _MOST:
            waiting.append((question, reply))
        else:
            raise ConfigurationError(
                f"{_MOST} of your questions for statistics are waiting already; ask again later"
            )
        self.step()

    def step(self) -> None:
        """Answer the next user if an answer is due, and forget expired answers."""
        if not (self._answers or self._waiting):
            return
        now = self._clock()
        self._rests = {user: until for user, until in self._rests.items() if until > now}
        self._answers = {key: answer for key, answer in self._answers.items() if answer.until > now}
        self._waiting = {user: waiting for user, waiting in self._waiting.items() if waiting}
        user = next((user for user in self._waiting if user not in self._rests), None)
        if user is not None and now >= self._all_rest:
            self._answer(user, self._waiting.pop(user))

    def _answer(self, user: str, waiting: list[tuple[Question, Reply]]) -> None:
        is_brief = waiting[0][0].is_brief
        now_answered = [each for each in waiting if each[0].is_brief is is_brief]
        self._waiting[user] = [each for each in waiting if each[0].is_brief is not is_brief]
        question = Question(is_brief, min(question.since for question, _ in now_answered))
        begin = self._clock()
        # The questions are removed first, so a bug of ours cannot raise the same error again.
        body = self._make(user, question)
        end = self._clock()
        self._rests[user] = until = end + _REST * (end - begin)
        self._all_rest = end + _REST_OF_ALL * (end - begin)
        self._answers[user, is_brief] = _Answer(question.since, body, until)
        for _, reply in now_answered:
            reply(body)

    def time_left(self) -> float | None:
        """Return the seconds until `step` has something to do; ``None``: not before the next question."""
        rests = [self._rests.get(user, -math.inf) for user, waiting in self._waiting.items() if waiting]
        return max(0.0, self._all_rest - self._clock(), min(rests) - self._clock()) if rests else None

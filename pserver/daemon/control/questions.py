"""Users' questions for the statistics, which are many more than the daemon has time to answer one by one.

A document takes milliseconds to make, in the thread that lets everybody in. So each user has a share of that time,
whatever the number of sessions and logins that ask, and all together have one. After an answer there is none for the
same user for `_REST` times as long as it took, and none for anybody for `_REST_OF_ALL` times as long. Meanwhile the
same question has the same answer again, and another question waits. What waits is answered user after user, all of one
user together: nobody waits for a user who asks more.
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
_MOST = 256  # of one user that wait


class Question(NamedTuple):
    """What of the document is wanted."""

    is_brief: bool = False  #: neither samples nor timeline
    since: float = -math.inf  #: from which instant on samples and timeline are wanted; there may be more

    @classmethod
    def read(cls, request: Mapping[str, Any]) -> "Question":
        """Return what a request asks for; what makes no sense of it is left out.

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
    until: float  # when it is too old


class Questions:
    """Those of all users.

    `make`: returns the document for a user, in JSON. `clock`: returns seconds.
    """

    def __init__(
        self, make: Callable[[str, Question], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._clock = clock
        self._answers: dict[tuple[str, bool], _Answer] = {}  # by user, and whether it is brief
        self._rests: dict[str, float] = {}  # when a user may have another one
        self._all_rest = -math.inf
        self._waiting: dict[str, list[tuple[Question, Reply]]] = {}  # the user whose turn it is first

    def ask(self, user: str, request: Mapping[str, Any], reply: Reply) -> None:
        """Have a user's question answered: `reply` is called with the document, at once or by `step`.

        Raises `ConfigurationError` if too many wait.
        """
        question = Question.read(request)
        known = self._answers.get((user, question.is_brief))
        waiting = self._waiting.setdefault(user, [])
        if known is not None and self._clock() < known.until and known.since <= question.since:
            reply(known.body)
        elif len(waiting) < _MOST:
            waiting.append((question, reply))
        else:
            raise ConfigurationError(f"{_MOST} questions of yours wait for statistics; ask again later")
        self.step()

    def step(self) -> None:
        """Answer the user whose turn it is, if it is time, and forget what is old."""
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
        # A fault of ours leaves nothing behind that would have it made again.
        body = self._make(user, question)
        end = self._clock()
        self._rests[user] = until = end + _REST * (end - begin)
        self._all_rest = end + _REST_OF_ALL * (end - begin)
        self._answers[user, is_brief] = _Answer(question.since, body, until)
        for _, reply in now_answered:
            reply(body)

    def time_left(self) -> float | None:
        """Return in how many seconds `step` has something to do; ``None``: not before somebody asks."""
        rests = [self._rests.get(user, -math.inf) for user, waiting in self._waiting.items() if waiting]
        return max(0.0, self._all_rest - self._clock(), min(rests) - self._clock()) if rests else None

"""The times of answers, with a clock that only advances while a document is made, or when the test sets it."""

import math
from collections.abc import Callable

import pytest

from pserver.daemon.control.questions import Question, Questions
from srp_tools.errors import ConfigurationError

SECONDS = 1.0  # for a document


class Daemon:
    """Makes documents, and records for whom and for which question."""

    def __init__(self) -> None:
        self.now = 100.0
        self.made: list[tuple[str, Question]] = []
        self.heard: list[tuple[str, str]] = []
        self.questions = Questions(self._make, lambda: self.now)

    def _make(self, user: str, question: Question) -> str:
        self.made.append((user, question))
        self.now += SECONDS
        return f"{user} {len(self.made)}"

    def ask(self, user: str, name: str = "", **words: object) -> None:
        self.questions.ask(user, words, lambda body: self.heard.append((name, body)))

    def pass_time(self, until: Callable[[], bool]) -> None:
        while not until():
            left = self.questions.time_left()
            assert left is not None
            self.now += left
            self.questions.step()


def test_the_same_question_has_the_same_answer_for_a_while() -> None:
    daemon = Daemon()
    for _ in range(20):  # of any number of logins
        daemon.ask("alice")
        daemon.now += 0.1
    assert daemon.heard == [("", "alice 1")] * 20
    daemon.now += 10 * SECONDS
    daemon.ask("alice")
    assert daemon.heard[-1] == ("", "alice 2")


def test_another_question_has_its_own_answer_after_a_rest() -> None:
    daemon = Daemon()
    daemon.ask("alice", "all", since=50)
    daemon.ask("alice", "brief", brief=True)
    daemon.ask("alice", "less", since=60.0)
    daemon.ask("alice", "more", since=40)
    daemon.ask("alice", "most", since=30)
    assert daemon.heard == [("all", "alice 1"), ("less", "alice 1")]
    daemon.pass_time(lambda: len(daemon.heard) == 5)
    assert daemon.heard[2:] == [("brief", "alice 2"), ("more", "alice 3"), ("most", "alice 3")]
    assert [question for _, question in daemon.made] == [
        Question(False, 50),
        Question(True, -math.inf),
        Question(False, 30),
    ]
    assert daemon.now >= 100 + 2 * 11 * SECONDS


def test_a_user_who_asks_more_keeps_no_other_waiting() -> None:
    daemon = Daemon()
    for number in range(50):
        daemon.ask("mallory", since=1000 - number)
    daemon.ask("alice")
    daemon.ask("bob")
    daemon.pass_time(lambda: len(daemon.made) == 4)
    assert [user for user, _ in daemon.made] == ["mallory", "alice", "bob", "mallory"]
    assert len(daemon.heard) == 52


def test_all_users_together_leave_the_daemon_time_for_others() -> None:
    daemon = Daemon()
    for number in range(30):
        daemon.ask(f"user {number}")
    daemon.pass_time(lambda: len(daemon.made) == 30)
    assert daemon.now - 100 >= 29 * 4 * SECONDS


def test_too_many_questions_are_refused_and_old_answers_forgotten() -> None:
    daemon = Daemon()
    daemon.ask("alice", since=1000)
    with pytest.raises(ConfigurationError, match="ask again later"):
        for _ in range(1000):
            daemon.ask("alice")
    daemon.pass_time(lambda: len(daemon.heard) > 200)
    assert daemon.questions.time_left() is None
    daemon.now += 1000
    daemon.questions.step()
    assert not daemon.questions._answers and not daemon.questions._waiting


@pytest.mark.parametrize("since", [10**400, -(10**400), math.inf, math.nan, "5", True, None])
def test_an_instant_that_makes_no_sense_is_none(since: object) -> None:
    assert Question.read({"since": since}) == Question(False)

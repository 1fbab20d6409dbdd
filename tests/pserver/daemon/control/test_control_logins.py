import logging

import pytest

from pserver.daemon.control.control_logins import END_SECONDS, MOST, MOST_OF_USER, ControlLogins
from pserver.daemon.control.endings import Endings
from pserver.daemon.held_session import Session
from tests.pserver.daemon.control.conftest import Place
from tests.support.waiting import wait_until


def ask(place: Place, user: str) -> Session:
    session, _ = place.attend()
    session.user = user
    return session


def living(place: Place, endings: Endings, user: str) -> list[Session]:
    place.turn()
    endings.step()
    return [each for each in place.sessions if each.user == user]


def test_a_user_has_few_and_the_one_that_was_silent_for_longest_ends(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    endings = Endings()
    logins = ControlLogins(endings)
    bob = ask(place, "bob")
    logins.hear(bob, stays=True)
    alices = [ask(place, "alice") for _ in range(MOST_OF_USER)]
    for session in [*alices, alices[0]]:  # the first asks again
        logins.hear(session, stays=True)
    assert len(living(place, endings, "alice")) == MOST_OF_USER
    further = ask(place, "alice")
    logins.hear(further, stays=True)
    wait_until(lambda: len(living(place, endings, "alice")) == MOST_OF_USER, "the end of one")
    assert living(place, endings, "alice") == [alices[0], *alices[2:], further]
    assert living(place, endings, "bob") == [bob]
    assert f"one user has {MOST_OF_USER} logins at most" in caplog.text


def test_all_users_together_have_no_more_than_a_server_can_bear(place: Place) -> None:
    endings = Endings()
    logins = ControlLogins(endings)
    sessions = [ask(place, f"user {number // MOST_OF_USER}") for number in range(MOST + 1)]
    for session in sessions:
        logins.hear(session, stays=True)
    wait_until(lambda: len(living(place, endings, "user 0")) == MOST_OF_USER - 1, "the end of the first")
    assert list(place.sessions) == sessions[1:]
    sessions[1].kill_all()  # a login that has ended by itself makes room
    wait_until(lambda: len(living(place, endings, "user 0")) == MOST_OF_USER - 2, "its end")
    logins.hear(ask(place, "zoe"), stays=False)
    assert len(list(place.sessions)) == MOST


def test_those_that_have_their_only_answer_have_some_seconds_to_end_by_themselves(place: Place) -> None:
    endings, now = Endings(), [100.0]
    logins = ControlLogins(endings, lambda: now[0])
    members = [ask(place, "member+pool") for _ in range(2 * MOST_OF_USER)]
    for session in members:
        logins.hear(session, stays=False)
    assert living(place, endings, "member+pool") == members
    now[0] += END_SECONDS  # the clients of these logins do not read their answers
    logins.hear(ask(place, "member+pool"), stays=False)
    wait_until(lambda: len(living(place, endings, "member+pool")) == MOST_OF_USER, "the end of the first")

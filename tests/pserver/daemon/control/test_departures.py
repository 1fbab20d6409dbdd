import json

import pytest

from pserver.daemon.control.departures import Departures
from pserver.daemon.control.endings import Endings
from tests.pserver.daemon.control.conftest import Place

OLD = {"alice": b"1", "bob": b"2"}


def same(user: str) -> str:
    return user


@pytest.mark.parametrize(
    ("salts", "allowed", "why"),
    [
        (OLD, (), ""),
        (OLD, ("bob", "alice"), ""),
        ({"alice": b"1"}, (), ""),
        ({"bob": b"2"}, (), "this user was removed"),
        ({"alice": b"3"}, (), "the password of this user was changed"),
        (OLD, ("bob",), "may not log in"),
    ],
)
def test_who_may_not_log_in_as_before_goes_with_the_reason(
    place: Place, salts: dict[str, bytes], allowed: tuple[str, ...], why: str
) -> None:
    session, control = place.log_in("alice")
    departures = Departures(Endings())
    departures.begin(session, "alice", OLD["alice"], same)
    ended = departures.end(place.sessions, salts, allowed, same)
    assert len(ended) == bool(why)
    if why:
        assert why in json.loads(control.recv(1000))["end"]
        assert (ended[0]["session"], ended[0]["user"]) == (session.pid, "alice")


def test_a_session_of_a_user_with_another_account_ends(place: Place) -> None:
    session, _ = place.log_in("alice")
    departures = Departures(Endings())
    departures.begin(session, "alice", OLD["alice"], same)
    [ended] = departures.end(place.sessions, OLD, (), lambda _: "physics2")
    assert "another account on the server now (--account-map)" in str(ended["why"])


def test_a_login_that_goes_on_is_left_alone(place: Place) -> None:
    session, _ = place.log_in("alice")
    departures = Departures(Endings())
    departures.begin(session, "mallory", None, same)
    session.user = None
    assert departures.end(place.sessions, OLD, (), same) == []

"""Ending single sessions: a session that ends by itself, and one that does not read."""

import json
import signal
import time

import pytest

from pserver.daemon.control.endings import Endings
from tests.pserver.daemon.control.conftest import Place
from tests.support.waiting import DEADLINE


def settle(place: Place, endings: Endings) -> None:
    deadline = time.monotonic() + DEADLINE
    while endings.time_left() is not None:
        place.turn()
        endings.step()
        assert time.monotonic() < deadline


def test_a_session_is_told_why_and_has_a_moment(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    session, control = place.log_in("alice\n")
    endings = Endings()
    endings.end(session, "it is late")
    endings.end(session, "once is enough")
    assert json.loads(control.recv(100)) == {"end": "it is late"}
    assert 0 < (endings.time_left() or 0) <= 1.0
    endings.step()
    session.signal(signal.SIGKILL)  # it ends
    settle(place, endings)
    assert len(place.sessions) == 0
    assert f"ending session {session.pid} of alice\\n: it is late" in caplog.text
    assert session.how == "it is late"


@pytest.mark.slow
def test_one_that_does_not_go_is_ended_within_two_seconds(place: Place) -> None:
    session, _ = place.log_in()
    session.signal(signal.SIGSTOP)
    endings = Endings()
    begin = time.monotonic()
    endings.end(session, "it is late")
    settle(place, endings)
    assert session.has_ended
    assert time.monotonic() - begin < 10.0  # 1.5 s, but machines are busy


def test_one_that_is_gone_is_left_alone(place: Place) -> None:
    session, _ = place.log_in()
    session.signal(signal.SIGKILL)
    while session in place.sessions:
        place.turn()
    endings = Endings()
    endings.end(session, "too late")
    assert endings.time_left() is None

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from pserver.daemon.held_session import LoginFailure, Session, Use
from pserver.daemon.session_audit import log_end, log_failure, log_request_login


def session(user: str | None) -> Session:
    started: Any = SimpleNamespace(pid=4711)
    return Session(started, "192.0.2.1 port 5", 0.0, user)


def test_failures_have_their_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_failure("192.0.2.1 port 5", LoginFailure("alice", "closed", is_refused=False, has_proved=True))
    log_failure("192.0.2.1 port 5", LoginFailure("bob", "", is_refused=True))
    assert "closed" in caplog.messages[0] and '"bob"' in caplog.messages[1]


def test_the_end_of_a_session_sums_up_what_it_has_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ended = session("alice")
    ended.usage = {1: Use([1, 2, 3, 4], 0, 0.0), 2: Use([10, 20, 30, 40], 0, 0.0)}
    log_end(ended, 0)
    assert "commands=11 jobs=22 received=33 sent=44" in caplog.messages[0]
    assert "ended (exit status 0)" in caplog.messages[1]


def test_members_come_and_go_without_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_request_login(session("member+pool"))
    log_end(session("member+pool"), 0)
    assert caplog.messages == []
    log_request_login(session("root"))
    assert "control" in caplog.messages[0]

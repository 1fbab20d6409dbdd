"""The grace period for late messages."""

import time

import pytest

from pconnect.loop.event_loop import EventLoop
from pconnect.session import grace
from pconnect.session.grace import Grace


def test_it_ends_once_and_can_begin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grace, "GRACE_SECONDS", 0.02)
    event_loop, wait, ended = EventLoop(), Grace(), []
    for count in (1, 2):
        wait.begin(event_loop, lambda: ended.append(1))
        wait.begin(event_loop, lambda: ended.append(2))
        assert wait.has_begun
        event_loop.run_until(lambda n=count: len(ended) == n, time.monotonic() + 20.0, "the end")  # type: ignore[misc]
        assert not wait.has_begun
    assert ended == [1, 1]
    event_loop.close()


def test_a_wait_that_is_cancelled_calls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grace, "GRACE_SECONDS", 0.02)
    event_loop, wait, ended = EventLoop(), Grace(), []
    wait.cancel()
    wait.begin(event_loop, lambda: ended.append(1))
    wait.cancel()
    with pytest.raises(TimeoutError):
        event_loop.run_until(lambda: bool(ended), time.monotonic() + 0.1, "nothing")
    event_loop.close()

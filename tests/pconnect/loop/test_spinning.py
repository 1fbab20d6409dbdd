"""Polling for a moment before sleeping."""

import time

import pytest

from pconnect.loop import spinning as module
from pconnect.loop.spinning import SPIN_SECONDS, spinning


class Source:
    """An event source whose event arrives at the n-th poll."""

    def __init__(self, comes_at: int) -> None:
        self.comes_at = comes_at
        self.timeouts: list[float] = []

    def wait(self, timeout: float) -> list[str]:
        self.timeouts.append(timeout)
        return ["here"] if len(self.timeouts) >= self.comes_at else []


def test_what_comes_at_once_is_found_without_sleeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    source = Source(3)
    assert spinning(source.wait, 5.0) == ["here"]
    assert source.timeouts == [0, 0, 0]


def test_what_does_not_come_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, SPIN_SECONDS / 2, SPIN_SECONDS])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    source = Source(3)
    assert spinning(source.wait, 5.0) == ["here"]
    assert source.timeouts == [0, 0, 5.0]


def test_a_timeout_of_0_polls_once() -> None:
    source = Source(2)
    assert spinning(source.wait, 0) == []
    assert source.timeouts == [0]


def test_where_a_processor_cannot_be_yielded_nobody_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_yield_processor", None)
    source = Source(2)
    assert spinning(source.wait, 5.0) == []
    assert source.timeouts == [5.0]

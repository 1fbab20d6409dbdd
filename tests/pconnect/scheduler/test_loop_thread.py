"""A thread with an event loop: what others leave for it is done at once, and it always ends in order."""

import logging
import threading
import time

import pytest

from pconnect.scheduler.loop_thread import LoopThread

LIMIT = 20.0


class Recorder:
    """Records in which thread it is called, and for what."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.threads: set[int] = set()
        self.work: list[str] = []
        self.ended = threading.Event()

    def _record(self, what: str) -> None:
        self.calls.append(what)
        self.threads.add(threading.get_ident())

    def begin(self) -> None:
        self._record("begin")

    def has_work(self) -> bool:
        return bool(self.work)

    def step(self) -> None:
        self._record("step")
        while self.work:
            self._record(self.work.pop())

    def end(self, reason: str) -> None:
        self._record(f"end: {reason}")
        self.ended.set()


def test_it_does_what_others_leave_for_it_and_ends() -> None:
    recorder = Recorder()
    thread = LoopThread("test", recorder)
    thread.start()
    done = threading.Event()
    begin = time.monotonic()
    for _ in range(50):
        done.clear()
        thread.call(done.set)
        assert done.wait(LIMIT)
    assert time.monotonic() - begin < 5  # it is woken, and does not look by and by
    recorder.work.append("work")
    thread.wake()
    thread.close("no more")
    thread.close("a second reason")
    assert recorder.ended.wait(LIMIT)
    assert recorder.calls[0] == "begin" and recorder.calls[-1] == "end: no more"
    assert "work" in recorder.calls
    assert recorder.threads.isdisjoint({threading.get_ident()}) and len(recorder.threads) == 1


def test_a_failure_is_logged_and_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    thread = LoopThread("test", recorder)
    thread.start()

    def fail() -> None:
        raise LookupError("a mistake")

    with caplog.at_level(logging.ERROR, "pconnect"):
        thread.call(fail)
        assert recorder.ended.wait(LIMIT)
    assert "has failed: LookupError('a mistake')" in thread.closed
    assert "has failed" in caplog.text
    thread.wake()  # nobody hears it
    thread.close("later")

"""A thread with an event loop: it runs calls of other threads without delay, and always shuts down in order."""

import logging
import math
import threading
import time
from collections.abc import Iterator

import pytest

from pconnect.link.connection import LIBRARY_TAGS, Connection
from pconnect.protocol.kinds import Kind
from pconnect.scheduler.loop_thread import LoopThread
from tests.support.links import connection_pair
from tests.support.waiting import wait_until

LIMIT = 20.0


class Recorder:
    """Records its calls, and the thread of each."""

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


def test_the_thread_runs_calls_of_others_and_ends() -> None:
    recorder = Recorder()
    thread = LoopThread("test", recorder)
    thread.start()
    done = threading.Event()
    begin = time.monotonic()
    for _ in range(50):
        done.clear()
        thread.call(done.set)
        assert done.wait(LIMIT)
    assert time.monotonic() - begin < 5  # it is woken, and does not wait for its next periodic check
    recorder.work.append("work")
    thread.wake()
    thread.close("no more")
    thread.close("a second reason")
    assert recorder.ended.wait(LIMIT)
    assert recorder.calls[0] == "begin" and recorder.calls[-1] == "end: no more"
    assert "work" in recorder.calls
    assert recorder.threads.isdisjoint({threading.get_ident()}) and len(recorder.threads) == 1


def test_a_failure_is_logged_and_ends_the_thread(caplog: pytest.LogCaptureFixture) -> None:
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
    thread.wake()  # has no effect
    thread.close("later")


def send(connection: Connection) -> None:
    connection.post(Kind.VALUE, LIBRARY_TAGS, 1)
    connection.flush()


@pytest.fixture
def asleep() -> Iterator[tuple[LoopThread, Recorder]]:
    """Return a thread that has started and is sleeping."""
    recorder = Recorder()
    thread = LoopThread("test", recorder)
    thread.start()
    wait_until(lambda: recorder.calls[:1] == ["begin"] and thread._is_sleeping, "its turn")
    yield thread, recorder
    thread.close("the end of the test")


def test_another_thread_takes_a_step_in_its_place(asleep: tuple[LoopThread, Recorder]) -> None:
    thread, recorder = asleep
    recorder.work.append("work")
    wait_until(thread.step_here, "its turn")  # the thread wakes up now and then by itself
    assert "work" in recorder.calls
    assert threading.get_ident() in recorder.threads


def test_no_step_is_taken_while_the_thread_works(asleep: tuple[LoopThread, Recorder]) -> None:
    thread, recorder = asleep
    works, go_on = threading.Event(), threading.Event()

    def work() -> None:
        works.set()
        assert go_on.wait(LIMIT)

    thread.call(work)
    assert works.wait(LIMIT)
    assert not thread.step_here()
    thread.read_here(lambda: pytest.fail("it looked for a connection"), lambda: False, math.inf)
    go_on.set()
    assert threading.get_ident() not in recorder.threads


def test_a_step_that_fails_ends_the_thread(
    asleep: tuple[LoopThread, Recorder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    thread, recorder = asleep

    def fail() -> None:
        raise LookupError("a mistake")

    monkeypatch.setattr(recorder, "step", fail)
    with caplog.at_level(logging.ERROR, "pconnect"):
        wait_until(lambda: not thread.step_here() and bool(thread.closed), "its turn")
    assert recorder.ended.wait(LIMIT)
    assert "has failed: LookupError('a mistake')" in thread.closed


def test_another_thread_reads_in_its_place(asleep: tuple[LoopThread, Recorder]) -> None:
    """A connection is read by the waiting thread during the wait, and by the loop afterwards."""
    thread, _ = asleep
    ours, theirs = connection_pair()
    readers: list[int] = []
    ours.on_library_value = lambda *_: readers.append(threading.get_ident())
    thread.call(lambda: thread.event_loop.add(ours))
    wait_until(lambda: ours in thread.event_loop._registrations, "its turn")

    def read() -> bool:
        timer = threading.Timer(0.02, lambda: send(theirs))
        timer.start()
        thread.read_here(lambda: ours, lambda: bool(readers), math.inf)
        timer.join()
        wait_until(lambda: bool(readers), "its turn")
        return readers.pop() == threading.get_ident()

    wait_until(read, "its turn")  # the thread wakes up now and then, and then reads itself
    send(theirs)
    wait_until(lambda: bool(readers), "its turn")
    assert readers != [threading.get_ident()]
    begin = time.monotonic()
    thread.read_here(lambda: ours, lambda: False, math.inf)
    assert time.monotonic() - begin < 5  # the thread takes over a long wait
    theirs.close()
    wait_until(lambda: ours.error is not None, "its turn")


def test_a_connection_is_lent_once(asleep: tuple[LoopThread, Recorder]) -> None:
    thread, _ = asleep
    ours, theirs = connection_pair()
    outcomes: list[object] = []

    def lend() -> None:
        loop = thread.event_loop
        outcomes.append(loop.lend(ours))  # the loop does not serve it yet
        loop.add(ours)
        loop.poll(0)
        outcomes.extend([loop.lend(ours), loop.lend(ours)])
        loop.take_back(ours)
        loop.take_back(ours)
        outcomes.append(loop.lend(ours))
        loop.discard(ours)
        loop.take_back(ours)
        outcomes.append(loop.lend(ours))

    thread.call(lend)
    wait_until(lambda: len(outcomes) == 5, "its turn")
    assert outcomes == [False, True, False, True, False]
    theirs.close()

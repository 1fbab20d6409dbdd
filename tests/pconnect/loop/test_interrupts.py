"""The effect of Ctrl-C on peers that are waited for. The tests of commands do the same with the library's own peers."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from pconnect.link.peer import Peer
from pconnect.loop import interrupts
from pconnect.loop.interrupts import DeferredSigint, interrupting


class Recorder(Peer):
    def __init__(self, busy: str = "") -> None:
        self.heard: list[object] = []
        self.busy_words = busy

    def interrupt(self, up_to: int | None = None) -> None:
        self.heard.append(("interrupt", up_to))

    def settle(self, deadline: float) -> str:  # noqa: ARG002
        if self.busy_words == "raise":
            raise KeyboardInterrupt
        return self.busy_words

    def kill(self, up_to: int | None = None) -> None:
        self.heard.append(("kill", up_to))


def test_all_are_interrupted_and_the_busy_are_named() -> None:
    quick, slow = Recorder(), Recorder("node 2 (b)")
    with pytest.raises(KeyboardInterrupt) as error, interrupting([quick, slow], 7):
        raise KeyboardInterrupt
    assert quick.heard == slow.heard == [("interrupt", 7)]
    assert "node 2 (b) has not ended yet" in error.value.__notes__[0]


def test_a_second_one_kills() -> None:
    peer = Recorder("raise")
    with pytest.raises(KeyboardInterrupt), interrupting([peer], 7):
        raise KeyboardInterrupt
    assert peer.heard == [("interrupt", 7), ("kill", 7)]


def test_other_errors_are_nobodys_business() -> None:
    peer = Recorder()
    with pytest.raises(TimeoutError), interrupting([peer]):
        raise TimeoutError
    assert peer.heard == []


def test_ctrl_c_is_honoured_at_the_end_of_the_outermost_block() -> None:
    shield = DeferredSigint()
    done = []
    with pytest.raises(KeyboardInterrupt), shield:
        signal.raise_signal(signal.SIGINT)
        done.append(1)
        with shield:
            signal.raise_signal(signal.SIGINT)
        done.append(2)
    assert done == [1, 2]
    with shield:
        pass  # the handler does not run twice


def test_ctrl_c_is_honoured_before_the_next_sleep() -> None:
    slept: list[float] = []
    shield = DeferredSigint()
    with shield:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            shield.sleep(slept.append, 1.0)
    assert slept == []


def test_ctrl_c_interrupts_a_sleep_and_only_that() -> None:
    def sleep(_: float) -> None:
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it was not interrupted")

    shield = DeferredSigint()
    with shield:
        with pytest.raises(KeyboardInterrupt):
            shield.sleep(sleep, 1.0)
        assert shield.sleep(lambda timeout: timeout, 2.0) == 2.0


def test_the_user_s_own_handler_is_called_and_stays() -> None:
    calls: list[int] = []

    def handler(number: int, _: object) -> None:
        calls.append(number)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with DeferredSigint():
            signal.raise_signal(signal.SIGINT)
            assert calls == []
        assert calls == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with DeferredSigint():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_the_handler_alone() -> None:
    handlers = []

    def look() -> None:
        with DeferredSigint():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


def test_it_is_active_until_the_end_of_the_outermost_block() -> None:
    shield = DeferredSigint()
    seen = [shield.active]
    with shield:
        with shield:
            seen.append(shield.active)
        seen.append(shield.active)
    assert [*seen, shield.active] == [False, True, True, False]


def press_before_line(number: int, deferred: DeferredSigint) -> bool:
    """Press Ctrl-C before a line of `DeferredSigint` in a nested block. Return whether that many lines were run."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename != interrupts.__file__:
            return None
        count += event == "line"
        if event == "line" and count == number:
            signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with deferred, deferred:
            deferred.sleep(lambda _: None, 0)
    finally:
        sys.settrace(before)
    return count >= number


def test_wherever_ctrl_c_comes_it_is_raised_once_and_leaves_nothing_behind() -> None:
    """Every row of the table that a single thread can reach between two lines."""
    handler = signal.getsignal(signal.SIGINT)
    for number in range(1, 100):
        deferred = DeferredSigint()
        try:
            if not press_before_line(number, deferred):
                break
        except KeyboardInterrupt:
            pass
        else:
            pytest.fail(f"the interrupt before line {number} was lost")
        assert not deferred.active
        assert signal.getsignal(signal.SIGINT) is handler
        with deferred:
            deferred.sleep(lambda _: None, 0)  # raises no second interrupt
    assert number > 20

"""The event loop: Ctrl-C as a real signal, time limits, and connections that end during a wait."""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from pconnect.link.connection import Connection
from pconnect.loop import event_loop as event_loop_module
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pconnect.values import receive_buffers
from pconnect.values.receive_buffers import ReceiveBuffers
from tests.support.links import LIMIT, connection_pair


@pytest.fixture
def ends() -> Iterator[tuple[EventLoop, Connection, EventLoop, Connection]]:
    left, right = connection_pair()
    loops = EventLoop(), EventLoop()
    loops[0].add(left)
    loops[1].add(right)
    yield loops[0], left, loops[1], right
    for loop in loops:
        loop.close()


@pytest.fixture
def bell() -> Iterator[tuple[EventLoop, socket.socket, socket.socket]]:
    """Return a loop that waits for one end of a socket pair, and both ends."""
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.closing(EventLoop()) as event_loop:
        yield event_loop, ours, theirs


def instant(seconds: float) -> float:
    return time.monotonic() + seconds


def test_both_send_first(ends: tuple[EventLoop, Connection, EventLoop, Connection]) -> None:
    left_loop, left, right_loop, right = ends
    array = np.arange(4 * 2**20)
    left.post(Kind.VALUE, 0, array)
    right.post(Kind.VALUE, 0, -array)

    def serve_other() -> None:
        right_loop.run_until(lambda: right.has_value(0) and not right.wants_to_write, instant(LIMIT), "left")

    other = threading.Thread(target=serve_other)
    other.start()
    left_loop.run_until(lambda: left.has_value(0) and not left.wants_to_write, instant(LIMIT), "right")
    other.join(LIMIT)
    assert not other.is_alive()
    assert np.array_equal(right.take_value(0), array)  # type: ignore[arg-type]
    assert np.array_equal(left.take_value(0), -array)  # type: ignore[arg-type]


def test_a_timeout_harms_nothing(ends: tuple[EventLoop, Connection, EventLoop, Connection]) -> None:
    left_loop, left, right_loop, right = ends
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"^timed out after 0\.0\d+ s waiting for a miracle$"):
        left_loop.run_until(lambda: False, instant(0.05), "a miracle")
    assert 0.05 <= time.monotonic() - begin < 5
    right.post(Kind.VALUE, 0, "late")
    right_loop.flush(right)
    left_loop.run_until(lambda: left.has_value(0), instant(LIMIT), "a value")
    assert left.take_value(0) == "late"


def test_a_condition_that_holds_needs_no_time() -> None:
    with contextlib.closing(EventLoop()) as event_loop:
        event_loop.run_until(lambda: True, 0.0, "nothing")


def test_a_lost_connection_is_served_no_longer(
    ends: tuple[EventLoop, Connection, EventLoop, Connection],
) -> None:
    left_loop, left, right_loop, right = ends
    right_loop.discard(right)
    left_loop.run_until(lambda: left.error is not None, instant(LIMIT), "the end")
    left_loop.poll(0)
    left_loop.remove(left)  # a second call does nothing


def test_flush_notices_a_lost_connection(ends: tuple[EventLoop, Connection, EventLoop, Connection]) -> None:
    left_loop, left, right_loop, right = ends
    right_loop.discard(right)
    left.post(Kind.VALUE, 0, 1)
    left_loop.flush(left)
    assert left.error is not None
    left_loop.poll(0)


def test_a_connection_that_another_callback_closed_is_passed_over(
    ends: tuple[EventLoop, Connection, EventLoop, Connection],
) -> None:
    left_loop, left, right_loop, right = ends
    ours, theirs = socket.socketpair()
    with ours, theirs:
        left_loop.watch(ours.fileno(), lambda: left_loop.discard(left))
        right.post(Kind.VALUE, 0, 1)
        right_loop.flush(right)
        theirs.send(b"x")
        left_loop.run_until(lambda: left.error is not None, instant(LIMIT), "the callback")
        left_loop.unwatch(ours.fileno())


def test_functions_of_the_user_are_called_at_the_end_of_a_poll_whatever_they_raise() -> None:
    called: list[int] = []
    with contextlib.closing(EventLoop()) as event_loop:

        def wait() -> None:
            event_loop.poll(0)  # this calls the next ones
            called.append(0)

        for function in (wait, lambda: called.append(1), called.pop, called.pop, lambda: called.append(2)):
            event_loop.turns.call_soon(function)
        assert called == []
        with pytest.raises(IndexError):
            event_loop.poll(0)
        event_loop.poll(0)
    assert called == [2]


def test_a_watch_that_another_callback_ended_is_passed_over() -> None:
    with contextlib.ExitStack() as stack:
        event_loop = stack.enter_context(contextlib.closing(EventLoop()))
        called = []
        pairs = [socket.socketpair() for _ in range(2)]
        for index, (ours, theirs) in enumerate(pairs):
            stack.enter_context(ours)
            stack.enter_context(theirs)

            def end_the_other(index: int = index) -> None:
                called.append(index)
                event_loop.unwatch(pairs[1 - index][0].fileno())
                pairs[index][0].recv(1)

            event_loop.watch(ours.fileno(), end_the_other)
            theirs.send(b"x")
        event_loop.poll(LIMIT)  # both are readable
        assert len(called) == 1


def test_ctrl_c_ends_a_wait(bell: tuple[EventLoop, socket.socket, socket.socket]) -> None:
    event_loop, _, _ = bell
    timer = threading.Timer(0.1, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
    timer.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        event_loop.run_until(lambda: False, instant(LIMIT), "Ctrl-C")
    timer.join()
    assert time.monotonic() - begin < LIMIT / 2


def test_ctrl_c_does_not_interrupt_work(bell: tuple[EventLoop, socket.socket, socket.socket]) -> None:
    event_loop, ours, theirs = bell
    done = []

    def work() -> None:
        ours.recv(1)
        signal.raise_signal(signal.SIGINT)
        done.append("to the end")

    event_loop.watch(ours.fileno(), work)
    theirs.send(b"x")
    with pytest.raises(KeyboardInterrupt):
        event_loop.run_until(lambda: False, instant(LIMIT), "Ctrl-C")
    assert done == ["to the end"]


def test_only_a_loop_that_was_idle_for_long_catches_up(
    ends: tuple[EventLoop, Connection, EventLoop, Connection],
) -> None:
    left_loop, left, right_loop, right = ends
    right.post(Kind.VALUE, 0, "meanwhile")
    right_loop.flush(right)
    left_loop._polled_at = time.monotonic()
    left_loop.catch_up()
    assert not left.has_value(0)
    left_loop._polled_at -= 1.0
    left_loop.catch_up()
    assert left.has_value(0)
    left_loop.close()
    left_loop._polled_at -= 1.0
    left_loop.catch_up()  # does nothing in a closed loop


def test_an_event_of_a_link_that_another_callback_gave_up(
    ends: tuple[EventLoop, Connection, EventLoop, Connection],
) -> None:
    left_loop, left, right_loop, right = ends
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def renew() -> None:
            ours.recv(1)
            left_loop.discard(left)
            left.reset()

        left_loop.watch(ours.fileno(), renew)
        theirs.send(b"x")
        right.post(Kind.VALUE, 0, "old")
        right_loop.flush(right)
        left_loop.run_until(lambda: left.generation == 1, instant(LIMIT), "the callback")
        left_loop.unwatch(ours.fileno())
    assert left.is_awaited


def test_what_is_left_to_be_sent_is_asked_for_before_each_look(
    ends: tuple[EventLoop, Connection, EventLoop, Connection],
) -> None:
    event_loop, connection, other, far = ends
    seen: list[object] = []
    event_loop.before_poll = lambda: connection.post(Kind.VALUE, 0, "left by a thread")
    event_loop.poll(0)
    other.run_until(lambda: far.has_value(0), instant(LIMIT), "a value")
    seen.append(far.take_value(0))
    assert seen == ["left by a thread"]


def test_a_loop_that_waits_gives_idle_memory_back(
    bell: tuple[EventLoop, socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ReceiveBuffers()
    monkeypatch.setattr(event_loop_module, "RECEIVE_BUFFERS", pool)
    monkeypatch.setattr(receive_buffers, "IDLE_SECONDS", 0.0)
    pool.take(1000)
    assert pool.free_bytes == 1000
    for _ in range(2):
        bell[0].poll(0.001)
    assert pool.free_bytes == 0

"""Several threads in one loop: which one polls, and which ones are woken. With real selectors and threads."""

import contextlib
import math
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pconnect import ConnectionLostError
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.turns import Waker
from tests.support.waiting import wait_until

LIMIT = 20.0


@pytest.fixture(params=[selectors.DefaultSelector, selectors.SelectSelector])
def event_loop(request: pytest.FixtureRequest) -> Iterator[EventLoop]:
    """Return a loop with a selector that is a system object, and one with another selector."""
    with contextlib.closing(EventLoop(request.param())) as made:
        made.longest_sleep = LIMIT  # otherwise waits would end by themselves
        yield made


class Waiter:
    """A thread that waits in a loop until it is stopped."""

    def __init__(self, event_loop: EventLoop) -> None:
        self.is_over = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._wait, args=(event_loop,))
        self.thread.start()

    def _wait(self, event_loop: EventLoop) -> None:
        try:
            event_loop.run_until(lambda: self.is_over, time.monotonic() + LIMIT, "the test")
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def join(self) -> None:
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()


def wait_asleep(event_loop: EventLoop, count: int) -> None:
    wait_until(lambda: event_loop.sigint_deferred.asleep == count, f"{count} threads that sleep")


def end(event_loop: EventLoop, *waiters: Waiter) -> None:
    """End waits, like news from another thread's own work."""
    with event_loop.sigint_deferred:
        for waiter in waiters:
            waiter.is_over = True
        event_loop.turns.note_news()


def test_all_that_wait_are_woken_by_the_news_of_another_thread(event_loop: EventLoop) -> None:
    waiters = [Waiter(event_loop) for _ in range(4)]
    wait_asleep(event_loop, 4)
    begun = time.monotonic()
    end(event_loop, *waiters)
    for waiter in waiters:
        waiter.join()
        assert waiter.error is None
    assert time.monotonic() - begun < LIMIT / 2
    assert event_loop.sigint_deferred.asleep == 0


def test_when_the_one_that_polls_ends_another_takes_its_place(event_loop: EventLoop) -> None:
    first = Waiter(event_loop)
    wait_asleep(event_loop, 1)
    second = Waiter(event_loop)
    wait_asleep(event_loop, 2)
    end(event_loop, first)
    first.join()
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def ring() -> None:
            ours.recv(1)
            second.is_over = True

        with event_loop.sigint_deferred:
            event_loop.watch(ours.fileno(), ring)
            event_loop.turns.note_news()  # a thread that sleeps in `select.select` needs this
        theirs.send(b"x")
        second.join()
        assert second.error is None
        event_loop.unwatch(ours.fileno())


def test_what_one_serves_for_another_wakes_it(event_loop: EventLoop) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        waiters: list[Waiter] = []

        def ring() -> None:
            ours.recv(1)
            waiters[1].is_over = True

        event_loop.watch(ours.fileno(), ring)
        waiters += [Waiter(event_loop)]
        wait_asleep(event_loop, 1)
        waiters += [Waiter(event_loop)]
        wait_asleep(event_loop, 2)
        theirs.send(b"x")  # the first thread polls
        waiters[1].join()
        assert waiters[0].thread.is_alive()
        end(event_loop, waiters[0])
        waiters[0].join()
        event_loop.unwatch(ours.fileno())


def test_a_time_limit_ends_the_wait_of_its_own_thread_only(event_loop: EventLoop) -> None:
    waiter = Waiter(event_loop)
    wait_asleep(event_loop, 1)
    with pytest.raises(TimeoutError):
        event_loop.run_until(lambda: False, time.monotonic() + 0.05, "the test")
    assert waiter.thread.is_alive()
    end(event_loop, waiter)
    waiter.join()


def test_the_end_of_the_loop_ends_all_waits(event_loop: EventLoop) -> None:
    waiters = [Waiter(event_loop) for _ in range(3)]
    wait_asleep(event_loop, 3)
    event_loop.close()
    for waiter in waiters:
        waiter.join()
        assert isinstance(waiter.error, ConnectionLostError)


def test_a_function_of_the_user_may_wait_for_a_thread_that_uses_the_loop(event_loop: EventLoop) -> None:
    done = threading.Event()

    def use() -> None:
        with event_loop.sigint_deferred:
            done.set()

    def call() -> None:
        thread = threading.Thread(target=use)
        thread.start()
        assert done.wait(LIMIT)
        thread.join()

    event_loop.turns.call_soon(call)
    with event_loop.sigint_deferred:
        event_loop.poll(0)
    assert done.is_set()


def test_a_look_waits_for_no_other_thread(event_loop: EventLoop) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with event_loop.sigint_deferred:
            inside.set()
            leave.wait(LIMIT)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(LIMIT)
    assert event_loop.look()
    leave.set()
    thread.join()
    assert not event_loop.look()


def test_listeners_hear_news_of_any_thread(event_loop: EventLoop) -> None:
    heard: list[Callable[[], bool]] = []
    listener = lambda: heard.append(event_loop.look)  # noqa: E731
    with event_loop.sigint_deferred:
        event_loop.turns.listen(listener)
    end(event_loop)
    with event_loop.sigint_deferred:
        event_loop.turns.unlisten(listener)
    end(event_loop)
    assert len(heard) == 1


def test_a_thread_that_has_used_the_loop_and_lives_may_end_a_wait(event_loop: EventLoop) -> None:
    with event_loop.sigint_deferred:
        assert event_loop.turns.is_alone()
    used, leave = threading.Event(), threading.Event()

    def use() -> None:
        event_loop.run_until(lambda: True, math.inf, "nothing")
        used.set()
        leave.wait(LIMIT)

    thread = threading.Thread(target=use)
    thread.start()
    assert used.wait(LIMIT)
    assert not event_loop.turns.is_alone()
    leave.set()
    thread.join()
    assert event_loop.turns.is_alone()


def test_a_waker_that_nobody_empties_never_blocks() -> None:
    with selectors.DefaultSelector() as selector:
        waker = Waker(selector)
        for _ in range(10_000):
            waker.wake()
        ((entry, _),) = selector.select(LIMIT)
        entry.data()
        waker.close()
        waker.wake()
        assert not selector.get_map()

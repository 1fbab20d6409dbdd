"""Several threads in one loop: one of the waiting threads serves the connections, and the others wait for its events.

There is one lock, in `DeferredSigint`. A thread holds it during everything that must not be interrupted, except while
it sleeps and while it calls the user's functions. Of the waiting threads, one *polls*: it sleeps in the selector. The
others *follow*: each sleeps until there is *news*, that is, until something has been served, closed or lost, and then
checks its own condition. When the polling thread's condition holds, one of the followers takes its place. A thread that
makes news by its own work wakes all the others, including the polling thread. The library starts no thread for this.

In a program with a single thread, the only cost is a check for other sleeping threads.
"""

import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from pconnect.loop.interrupts import DeferredSigint


class Waker:
    """Wakes up a thread that sleeps in a selector."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        selector.register(self._reading, selectors.EVENT_READ, self._drain)

    def wake(self) -> None:
        """Make the selector report an event. Any thread may call this."""
        with suppress(
            OSError
        ):  # the buffer is full, so the selector reports it anyway; or the socket is closed
            self._writing.send(b"x")

    def _drain(self) -> None:
        with suppress(BlockingIOError):  # another thread has read the bytes
            self._reading.recv(1000)

    def close(self) -> None:
        """Close the descriptors. No thread may be sleeping in the selector."""
        self._selector.unregister(self._reading)
        self.abandon()

    def abandon(self) -> None:
        """Close only the descriptors, in a forked process."""
        self._reading.close()
        self._writing.close()


class Turns:
    """The threads that wait in one loop, and the user's functions that wait to be called.

    `selector`: the loop's selector.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.guard = DeferredSigint(self._pass_on)
        self._poller = 0  # the thread that sleeps in the selector
        self._selector = selector
        # Whether a thread that sleeps in the selector notices changes of it. epoll and kqueue are system objects with a
        # descriptor and do; `select.select` works on a copy.
        self._takes_changes = hasattr(selector, "fileno")
        self._has_news = False
        self._followers: deque[Callable[[], object]] = deque()  # each function wakes a thread
        self._listeners: set[Callable[[], object]] = set()
        self._waker: Waker | None = None
        self._soon: deque[Callable[[], object]] = deque()

    # --- these need the lock ---

    @property
    def is_polled(self) -> bool:
        """Whether another thread sleeps in the selector."""
        return self._poller not in {0, threading.get_ident()}

    def select(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep until a descriptor is ready, another thread has news, or `timeout` has passed. Return ready entries."""
        if self.guard.asleep:
            if timeout and self.is_polled and not self._takes_changes:
                self.note_news()
            if self._has_news:
                self._pass_on()
        if not timeout:
            return self.guard.sleep(self._selector.select, 0)
        if self.is_polled:
            self._follow(timeout)
            return []
        # A signal handler may call the library while its own thread sleeps here.
        before, self._poller = self._poller, threading.get_ident()
        try:
            return self.guard.sleep(self._selector.select, timeout)
        finally:
            self._poller = before

    def _follow(self, timeout: float) -> None:
        waiter = threading.Lock()
        waiter.acquire()
        wake = waiter.release
        self._followers.append(wake)
        try:
            self.guard.sleep(lambda seconds: waiter.acquire(timeout=seconds), timeout)
        finally:
            with suppress(ValueError):  # another thread has woken this one and removed it
                self._followers.remove(wake)

    def note_news(self) -> None:
        """Make all other threads check their conditions when this thread releases the lock."""
        self._has_news = True
        if self.is_polled and self._waker is None:
            self._waker = Waker(self._selector)

    def listen(self, listener: Callable[[], object]) -> None:
        """Call `listener` for all news, in any thread and without the lock."""
        self._listeners.add(listener)
        self.guard.asleep += 1

    def unlisten(self, listener: Callable[[], object]) -> None:
        """End `listen`."""
        self._listeners.remove(listener)
        self.guard.asleep -= 1

    def end(self) -> None:
        """Make all other threads leave the selector, which is about to be closed."""
        self.note_news()
        self._pass_on()
        while self.is_polled:
            self._follow(1.0)
        if self._waker is not None:
            self._waker.close()
            self._waker = None

    def abandon(self) -> None:
        """Leave everything to the parent process of a fork, of which no other thread exists here."""
        self.guard.abandon()
        self._poller, self._has_news = 0, False
        self._followers.clear()
        self._listeners.clear()
        self._soon.clear()
        if self._waker is not None:
            self._waker.abandon()
            self._waker = None

    # --- the user's functions ---

    def call_soon(self, function: Callable[[], object]) -> None:
        """Schedule a function for the next `call_waiting`."""
        self._soon.append(function)

    def call_waiting(self) -> None:
        """Call all scheduled functions, even if some raise errors. Then raise the error of the last one that failed.

        Other threads may use the loop meanwhile, because a function may wait for one of them.
        """
        if self._soon:
            with ExitStack() as stack:
                for _ in range(len(self._soon)):
                    stack.callback(self._call_next)

    def _call_next(self) -> None:
        if self._soon:  # a nested wait may have called it
            self.guard.let_go(self._soon.popleft())

    # --- other threads ---

    def is_alone(self) -> bool:
        """Return whether no other living thread has used the loop. If one has, it may end a wait of this thread."""
        living = {thread.ident for thread in threading.enumerate()}
        return self.guard.users & living <= {threading.get_ident()}

    def _pass_on(self) -> None:
        """Wake all other threads if there is news, or one of them if none polls. Needs the lock, or was just released.

        A woken thread checks its condition when it has the lock, so not too early. A thread that is about to sleep has
        checked it with the lock, so after all earlier changes.
        """
        if self._has_news:
            self._has_news = False
            while self._wake_one():
                pass
            for listener in tuple(self._listeners):
                listener()
            waker = self._waker
            if self.is_polled and waker is not None:
                waker.wake()
        elif not self._poller:
            self._wake_one()

    def _wake_one(self) -> Any:
        with suppress(IndexError):
            self._followers.popleft()()
            return True
        return False

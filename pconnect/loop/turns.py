"""Several threads in one loop: whichever waits serves the connections, the others wait for what comes of it.

There is one lock, which `DeferredSigint` has: a thread holds it from the beginning to the end of everything that must
not be left half done, except where it sleeps and where it calls functions of the user. Of the threads that wait, one
sleeps in the selector, it *polls*; the others *follow*: each sleeps until there is *news*, that is, until something has
been served, closed or lost, and then looks at its own condition. When the thread that polls has what it waits for, one
of the others takes its place. A thread that does something for itself, and makes news with that, wakes all, also the
one that polls. No thread is ours.

Nothing of this costs a program with one thread more than to look whether others sleep.
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
    """Wakes a thread that sleeps in a selector."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        selector.register(self._reading, selectors.EVENT_READ, self._drain)

    def wake(self) -> None:
        """Have the selector report something; any thread may call this."""
        with suppress(OSError):  # it is full, so the selector reports it anyway; or closed
            self._writing.send(b"x")

    def _drain(self) -> None:
        with suppress(BlockingIOError):  # another thread was told of the same bytes, and has read them
            self._reading.recv(1000)

    def close(self) -> None:
        """End it; no thread may sleep in the selector."""
        self._selector.unregister(self._reading)
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptors only, in a forked process."""
        self._reading.close()
        self._writing.close()


class Turns:
    """The threads that wait in one loop, and the functions of the user that wait to be called.

    `selector`: of the loop.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.guard = DeferredSigint(self._pass_on)
        self._poller = 0  # which thread sleeps in the selector
        self._selector = selector
        # Whether a change is seen by a thread that sleeps in it: epoll and kqueue are objects of the system, and have a
        # descriptor; `select.select` looks at what it was called with.
        self._takes_changes = hasattr(selector, "fileno")
        self._has_news = False
        self._followers: deque[Callable[[], object]] = deque()  # each wakes a thread
        self._listeners: set[Callable[[], object]] = set()
        self._waker: Waker | None = None
        self._soon: deque[Callable[[], object]] = deque()

    # --- all of these with the lock ---

    @property
    def is_polled(self) -> bool:
        """Whether another thread sleeps in the selector."""
        return self._poller not in {0, threading.get_ident()}

    def select(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep for some seconds, until a descriptor is ready or another thread has news; return what is ready."""
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
        # A handler of a signal may call the library while its own thread sleeps here.
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
            with suppress(ValueError):  # it was woken
                self._followers.remove(wake)

    def note_news(self) -> None:
        """Have all others look at what they wait for, once this thread gives away the lock."""
        self._has_news = True
        if self.is_polled and self._waker is None:
            self._waker = Waker(self._selector)

    def listen(self, listener: Callable[[], object]) -> None:
        """Call `listener` whenever there is news, in any thread and without the lock."""
        self._listeners.add(listener)
        self.guard.asleep += 1

    def unlisten(self, listener: Callable[[], object]) -> None:
        """End `listen`."""
        self._listeners.remove(listener)
        self.guard.asleep -= 1

    def end(self) -> None:
        """Have all others leave the selector, which is about to be closed."""
        self.note_news()
        self._pass_on()
        while self.is_polled:
            self._follow(1.0)
        if self._waker is not None:
            self._waker.close()
            self._waker = None

    def abandon(self) -> None:
        """Leave all to the process that this one was forked from; no other thread of it is here."""
        self.guard.abandon()
        self._poller, self._has_news = 0, False
        self._followers.clear()
        self._listeners.clear()
        self._soon.clear()
        if self._waker is not None:
            self._waker.abandon()
            self._waker = None

    # --- functions of the user ---

    def call_soon(self, function: Callable[[], object]) -> None:
        """Have a function called by the next `call_waiting`."""
        self._soon.append(function)

    def call_waiting(self) -> None:
        """Call all functions of `call_soon`, whatever they raise; the error of the last that failed is raised.

        Other threads may use the loop meanwhile: a function may wait for one of them.
        """
        if self._soon:
            with ExitStack() as stack:
                for _ in range(len(self._soon)):
                    stack.callback(self._call_next)

    def _call_next(self) -> None:
        if self._soon:  # a wait inside another one may have called it
            self.guard.let_go(self._soon.popleft())

    # --- the others ---

    def is_alone(self) -> bool:
        """Return whether no other thread that lives has used the loop; one that has may end a wait of this one."""
        living = {thread.ident for thread in threading.enumerate()}
        return self.guard.users & living <= {threading.get_ident()}

    def _pass_on(self) -> None:
        """Wake all others if there is news, or one of them if none polls; with the lock, or just after giving it away.

        A thread that is woken looks at its condition once it has the lock, so it cannot look too early. One that is
        about to sleep has looked with the lock, so after all changes that were made before.
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

"""A thread with an event loop; other threads pass calls to it.

A switch between threads costs as much as a message to another process. A thread that submits one job and waits for its
result therefore does both itself while the loop's own thread sleeps: see `LoopThread.step_here` and
`LoopThread.read_here`. A lock protects the loop and its owner. The loop's thread releases it while it sleeps, and while
it calls functions of the user, which may wait for something held by a thread that waits for the lock.
"""

import logging
import select
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from pconnect.errors import ConnectionLostError
from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.interrupts import DeferredSigint
from pconnect.loop.turns import Waker

log = logging.getLogger("pconnect")

#: Seconds between two calls of `Owner.step` if nothing happens.
LOOK_SECONDS = 0.2


class Owner(Protocol):
    """The object that the thread works for; its methods run in this thread, or in another that takes its place."""

    def begin(self) -> None:
        """Start; called once before all other methods."""

    def has_work(self) -> bool:
        """Return whether `step` has something to do although no event has arrived."""

    def step(self) -> None:
        """Do all pending work."""

    def end(self, reason: str) -> None:
        """Finish; called once after all other methods."""


class _Turn:
    """A lock that knows which thread holds it. `holder`: the thread's `threading.get_ident`, or 0."""

    __slots__ = ("_lock", "holder")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.holder = 0

    def take(self, *, blocking: bool = True) -> bool:
        """Acquire the lock; without `blocking`, only if it is free. Return whether it was acquired."""
        if not self._lock.acquire(blocking=blocking):
            return False
        self.holder = threading.get_ident()
        return True

    def give(self) -> None:
        """Release the lock."""
        self.holder = 0
        self._lock.release()


class _SharedSelector(selectors.DefaultSelector):
    """A selector that releases the lock while it sleeps, so that other threads can use the loop."""

    def __init__(self, turn: _Turn) -> None:
        super().__init__()
        self._turn = turn

    def select(self, timeout: float | None = None) -> Any:
        self._turn.give()
        try:
            return super().select(timeout)
        finally:
            self._turn.take()


class LoopThread:
    """A thread that runs an event loop.

    `name`: of the thread. `owner`: the object that the thread works for. `event_loop`: for the owner to use in this
    thread. `closed`: why the thread ends or has ended; empty before.
    """

    def __init__(self, name: str, owner: Owner) -> None:
        self._turn = _Turn()
        selector = _SharedSelector(self._turn)
        self.event_loop = EventLoop(selector)
        self.closed = ""
        self._owner = owner
        self._calls: deque[Callable[[], object]] = deque()
        self._callbacks: deque[Callable[[], object]] = deque()
        self._waker = Waker(selector)
        self._is_sleeping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the thread; do not wait for it."""
        self._calls.append(function)
        self.wake()

    def call_back(self, function: Callable[[], object]) -> None:
        """Call a user's function: immediately, or from the loop's own thread if this thread is using the loop."""
        caller = threading.get_ident()
        if self._turn.holder != caller:
            function()
            return
        self._callbacks.append(function)
        if caller != self._thread.ident:
            self.wake()

    def wake(self) -> None:
        """Wake the thread if it sleeps."""
        if self._is_sleeping:
            self._is_sleeping = False
            self._waker.wake()

    def close(self, reason: str) -> None:
        """End the thread, and wait up to 5 s for its end."""
        if not self.closed:
            self.closed = reason
            self.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def abandon(self, error: ConnectionLostError) -> None:
        """Give up the thread in a forked process, where it does not exist."""
        self.closed, self._is_sleeping = str(error), False
        self._turn = _Turn()
        self._calls.clear()
        self._callbacks.clear()
        self._waker.abandon()

    # --- in place of the thread ---

    def step_here(self) -> bool:
        """Run one step of the owner in the calling thread; return whether that succeeded and no work is left.

        It fails while another thread uses the loop.
        """
        with DeferredSigint():
            if not self._turn.take(blocking=False):
                return False
            return self._visit(self._step) is True

    def _step(self) -> bool:
        if self.closed or not self._is_sleeping:
            return False
        self._owner.step()
        return not (self.event_loop.update_events() or self.event_loop.has_unread)

    def read_here(
        self, find: Callable[[], Connection | None], is_over: Callable[[], bool], deadline: float
    ) -> None:
        """Read from one connection in the calling thread until a condition holds.

        This returns after at most `LOOK_SECONDS`, when the connection ends, and immediately if another thread uses the
        loop or reads in the same way.

        `find`: returns the connection, or ``None`` if there is none to wait for. `deadline`: instant of
        `time.monotonic`.
        """
        if not hasattr(select, "poll"):
            return
        deadline = min(deadline, time.monotonic() + LOOK_SECONDS)
        with (sigint := DeferredSigint(spins=True)):
            if not self._turn.take(blocking=False):
                return
            connection = self._visit(lambda: self._borrow(find))
            if connection is None:
                return
            try:
                poll = select.poll()
                poll.register(connection.fileno(), select.POLLIN)
                is_open = True
                while is_open and not is_over() and (left := deadline - time.monotonic()) > 0:
                    sigint.sleep(poll.poll, left * 1000)
                    self._turn.take()
                    is_open = self._visit(lambda: self._read(connection)) is True
            finally:
                self._turn.take()
                self._visit(lambda: self._give_back(connection))

    def _borrow(self, find: Callable[[], Connection | None]) -> Connection | None:
        connection = find() if self._is_sleeping and not self.closed else None
        return connection if connection is not None and self.event_loop.lend(connection) else None

    def _read(self, connection: Connection) -> bool:
        self.event_loop.take_in(connection)
        return connection.error is None and not self.event_loop.has_unread

    def _give_back(self, connection: Connection) -> None:
        self.event_loop.take_back(connection)
        if self.event_loop.update_events() or self.event_loop.has_unread:
            self.wake()

    def _visit(self, function: Callable[[], Any]) -> Any:
        """Call a function in place of the thread, release the lock, and return the function's result."""
        try:
            return function()
        except BaseException as error:  # noqa: BLE001 - handled like a failure of the thread itself
            self._fail(error)
            self.wake()
            return None
        finally:
            self._turn.give()

    # --- the thread ---

    def _fail(self, error: BaseException) -> None:
        log.error("the scheduler's thread has failed", exc_info=error)
        self.closed = f"the scheduler's thread has failed: {error!r}"

    def _run(self) -> None:
        self._turn.take()
        try:
            self._owner.begin()
            while not self.closed:
                self._is_sleeping = True  # set before the check: calls left after it wake the thread
                has_work = bool(self._calls or self._callbacks) or self._owner.has_work()
                self.event_loop.poll(0 if has_work else LOOK_SECONDS)
                self._is_sleeping = False
                while self._calls:
                    self._calls.popleft()()
                self._call_users()
                self._owner.step()
                self._call_users()
        except BaseException as error:  # noqa: BLE001 - logged, and all jobs fail with it
            self._fail(error)
        finally:
            self._owner.end(self.closed)
            self._call_users()
            self.event_loop.close()
            self._turn.give()
            self._waker.abandon()  # its selector is closed

    def _call_users(self) -> None:
        """Call the pending functions of the user, without the lock."""
        if not self._callbacks:
            return
        self._turn.give()
        try:
            while self._callbacks:
                try:
                    self._callbacks.popleft()()
                except BaseException:
                    log.exception("exception calling a callback of a job")
        finally:
            self._turn.take()

"""A thread with an event loop, to which other threads leave calls.

A switch of threads costs as much as a message to another process. So a thread that has one thing to do, and waits for
what comes of it, does both itself while the loop's own thread sleeps: `LoopThread.step_here`, `LoopThread.read_here`.
Whoever uses the loop or its owner has a lock, which the loop's thread gives away where it sleeps, and where it calls
functions of the user: those may wait for what is held by a thread that waits for the lock.
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
    """What the thread works for; while it lives, only this thread calls these, or another in its place."""

    def begin(self) -> None:
        """Do what comes first."""

    def has_work(self) -> bool:
        """Return whether `step` has something to do although nothing has come from outside."""

    def step(self) -> None:
        """Do what there is to do."""

    def end(self, reason: str) -> None:
        """Do what comes last."""


class _Turn:
    """A lock that knows which thread has it. `holder`: the thread, as by `threading.get_ident`; 0: none."""

    __slots__ = ("_lock", "holder")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.holder = 0

    def take(self, *, blocking: bool = True) -> bool:
        """Wait for the lock, or look whether it is free; return whether it was."""
        if not self._lock.acquire(blocking=blocking):
            return False
        self.holder = threading.get_ident()
        return True

    def give(self) -> None:
        """Release the lock."""
        self.holder = 0
        self._lock.release()


class _SharedSelector(selectors.DefaultSelector):
    """A selector that lets other threads use the loop while it sleeps."""

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
    """The thread.

    `name`: of the thread, and what the log calls it. `owner`: what it works for. `event_loop`: for the owner, in this
    thread. `closed`: why it ends, or has ended; empty before.
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
        """Begin."""
        self._thread.start()

    def call(self, function: Callable[[], object]) -> None:
        """Have something done by the thread."""
        self._calls.append(function)
        self.wake()

    def call_back(self, function: Callable[[], object]) -> None:
        """Call a function of the user: at once, but if this thread uses the loop, a little later by the loop's own."""
        caller = threading.get_ident()
        if self._turn.holder != caller:
            function()
            return
        self._callbacks.append(function)
        if caller != self._thread.ident:
            self.wake()

    def wake(self) -> None:
        """Have the thread look for work."""
        if self._is_sleeping:
            self._is_sleeping = False
            self._waker.wake()

    def close(self, reason: str) -> None:
        """End the thread, and wait for that for a while."""
        if not self.closed:
            self.closed = reason
            self.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def abandon(self, error: ConnectionLostError) -> None:
        """Leave it to the process that this one was forked from, where alone the thread is."""
        self.closed, self._is_sleeping = str(error), False
        self._turn = _Turn()
        self._calls.clear()
        self._callbacks.clear()
        self._waker.abandon()

    # --- in place of the thread ---

    def step_here(self) -> bool:
        """Do one step of the owner in the calling thread; return whether that was possible, and is all there is to do.

        It is not while another thread uses the loop.
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
        """Take in what arrives on one connection, in the calling thread, until a condition holds.

        This returns after `LOOK_SECONDS` in any case, at once if another thread uses the loop or does the same, and
        when the connection ends.

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
        """Call a function in place of the thread, release the lock, and return what the function has returned."""
        try:
            return function()
        except BaseException as error:  # noqa: BLE001 - as in the thread itself
            self._fail(error)
            self.wake()
            return None
        finally:
            self._turn.give()

    # --- the thread ---

    def _fail(self, error: BaseException) -> None:
        log.error("the thread that looks after jobs has failed", exc_info=error)
        self.closed = f"the thread that looks after jobs has failed: {error!r}"

    def _run(self) -> None:
        self._turn.take()
        try:
            self._owner.begin()
            while not self.closed:
                self._is_sleeping = True  # before the look: what comes after it wakes us
                has_work = bool(self._calls or self._callbacks) or self._owner.has_work()
                self.event_loop.poll(0 if has_work else LOOK_SECONDS)
                self._is_sleeping = False
                while self._calls:
                    self._calls.popleft()()
                self._call_users()
                self._owner.step()
                self._call_users()
        except BaseException as error:  # noqa: BLE001 - logged, and the reason for which all jobs fail
            self._fail(error)
        finally:
            self._owner.end(self.closed)
            self._call_users()
            self.event_loop.close()
            self._turn.give()
            self._waker.abandon()  # what it was registered in is closed

    def _call_users(self) -> None:
        """Call the functions of the user that wait, and let others use the loop meanwhile."""
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

"""A thread with an event loop, to which other threads leave calls."""

import contextlib
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pconnect.loop.event_loop import EventLoop

log = logging.getLogger("pconnect")

#: Seconds between two calls of `Owner.step` if nothing happens.
LOOK_SECONDS = 0.2


class Owner(Protocol):
    """What the thread works for; only this thread calls these while it lives."""

    def begin(self) -> None:
        """Do what comes first."""

    def has_work(self) -> bool:
        """Return whether `step` has something to do although nothing has come from outside."""

    def step(self) -> None:
        """Do what there is to do."""

    def end(self, reason: str) -> None:
        """Do what comes last."""


class LoopThread:
    """The thread.

    Parameters
    ----------
    name
        Of the thread, and what the log calls it.
    owner
        What it works for.

    Attributes
    ----------
    event_loop
        For the owner, in this thread.
    closed
        Why it ends, or has ended; empty before.
    """

    def __init__(self, name: str, owner: Owner) -> None:
        self.event_loop = EventLoop()
        self.closed = ""
        self._owner = owner
        self._calls: deque[Callable[[], object]] = deque()
        self._wakeup, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._wakeup.setblocking(False)
        self.event_loop.watch(self._wakeup.fileno(), self._drain)
        self._is_sleeping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def call(self, function: Callable[[], object]) -> None:
        """Have something done by the thread."""
        self._calls.append(function)
        self.wake()

    def wake(self) -> None:
        """Have the thread look for work."""
        if self._is_sleeping:
            self._is_sleeping = False
            with contextlib.suppress(OSError):  # it is awake anyway, or has ended
                self._waker.send(b"x")

    def close(self, reason: str) -> None:
        """End the thread, and wait for that for a while."""
        if not self.closed:
            self.closed = reason
            self.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(1000)

    def _run(self) -> None:
        try:
            self._owner.begin()
            while not self.closed:
                self._is_sleeping = True  # before the look: what comes after it wakes us
                has_work = bool(self._calls) or self._owner.has_work()
                self.event_loop.poll(0 if has_work else LOOK_SECONDS)
                self._is_sleeping = False
                while self._calls:
                    self._calls.popleft()()
                self._owner.step()
        except BaseException as error:
            log.exception("the thread that looks after jobs has failed")
            self.closed = f"the thread that looks after jobs has failed: {error!r}"
        finally:
            self._owner.end(self.closed)
            self.event_loop.close()
            self._wakeup.close()
            self._waker.close()

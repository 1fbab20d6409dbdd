"""A future made of few objects, because there may be a hundred thousand jobs."""

import concurrent.futures
import threading
from _thread import RLock
from concurrent.futures import _base
from typing import Any


class LightCondition(RLock):  # type: ignore[misc] # RLock is not final at run time
    """A `threading.Condition` that is only a lock until a thread waits.

    The standard library's condition consists of eight objects, which Python's garbage collector visits again and again
    for as long as the future exists.
    """

    _waited: threading.Condition | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock until `notify_all` is called or the timeout expires; return whether it was called."""
        if self._waited is None:
            self._waited = threading.Condition(self)
        return self._waited.wait(timeout)

    def notify_all(self) -> None:
        """Wake all waiting threads."""
        if self._waited is not None:
            self._waited.notify_all()


class LightFuture(concurrent.futures.Future[Any]):
    """A standard future with a `LightCondition`."""

    def __init__(self) -> None:
        # Like the constructor of the standard library, except for the condition.
        self._state = _base.PENDING
        self._result = self._exception = None
        self.forget_waiters()

    def forget_waiters(self) -> None:
        """Remove all waiters: at creation, and in a forked process, where the waiting threads do not exist."""
        self._condition: Any = LightCondition()  # after a fork, a missing thread may hold the previous lock
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []

    def begin(self) -> bool:
        """Mark the job as sent, or wake its waiters if it is cancelled; return whether it should run.

        This may be called again, and from several threads: a job may be cancelled just when the scheduler takes it.
        """
        with self._condition:
            if self._state == _base.PENDING:
                self._state = _base.RUNNING
                return True
            if self._state == _base.CANCELLED:
                return self.set_running_or_notify_cancel()
            return self._state == _base.RUNNING

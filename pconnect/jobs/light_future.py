"""A future that is a few objects, because there may be a hundred thousand jobs."""

import concurrent.futures
import threading
from _thread import RLock
from concurrent.futures import _base
from typing import Any


class LightCondition(RLock):  # type: ignore[misc] # it is no final class
    """A `threading.Condition` that is no more than its lock until a thread waits.

    The standard library's is eight objects, at which Python's collector of garbage looks again and again as long as the
    future is there.
    """

    _waited: threading.Condition | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock until `notify_all` is called, or some seconds have passed; return whether it was called."""
        if self._waited is None:
            self._waited = threading.Condition(self)
        return self._waited.wait(timeout)

    def notify_all(self) -> None:
        """Wake all threads that wait."""
        if self._waited is not None:
            self._waited.notify_all()


class LightFuture(concurrent.futures.Future[Any]):
    """A future of the standard library with such a condition."""

    def __init__(self) -> None:
        # As the standard library's does it, but for the condition.
        self._state = _base.PENDING
        self._result = self._exception = None
        self.forget_waiters()

    def forget_waiters(self) -> None:
        """Have nothing wait for it: at the beginning, and in a forked process, where no thread that did is there."""
        self._condition: Any = LightCondition()  # such a thread may hold the one from before
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []

    def begin(self) -> bool:
        """Mark it as sent, or wake those that wait for it if it is cancelled; return whether it should run.

        It may be called again, and from several threads: a job may be cancelled just when the scheduler takes it up.
        """
        with self._condition:
            if self._state == _base.PENDING:
                self._state = _base.RUNNING
                return True
            if self._state == _base.CANCELLED:
                return self.set_running_or_notify_cancel()
            return self._state == _base.RUNNING

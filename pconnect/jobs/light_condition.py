"""A condition for futures of which there are many, and few are waited for."""

import threading
from _thread import RLock


class LightCondition(RLock):  # type: ignore[misc] # it is no final class
    """A `threading.Condition` that is no more than its lock until somebody waits.

    The standard library's is eight objects, at which Python's collector of garbage looks again and again as long as the
    future is there.
    """

    _waited: threading.Condition | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Let go of the lock until somebody notifies, or some seconds have passed; return whether somebody has."""
        if self._waited is None:
            self._waited = threading.Condition(self)
        return self._waited.wait(timeout)

    def notify_all(self) -> None:
        """Wake all who wait."""
        if self._waited is not None:
            self._waited.notify_all()

"""Keeps the record of the daemon in the run-time folder up to date, as far as that can be done.

The record is for what comes after a daemon that was killed: the next one of its name, and ``pserver stop``. What it
says while it lives is asked for at the control socket. A full disk or a folder that is gone ends nothing: that is
logged once, and the record is written again when it can be.

One rule holds for all that the daemon has in the run-time folder: it looks every few seconds, and makes again what was
removed. The pid file comes first. Without its lock the place may belong to another server of this name.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence

from pserver.system.pidfile import PidFile
from pserver.systemd.notify import ServiceManager
from srp_tools.errors import ConfigurationError

log = logging.getLogger("pserver")

_PAUSE = 0.5  # seconds at least between two times that the service manager hears of slots; jobs may be short
_RETRY_SECONDS = 5.0  # after a write that failed
_LOOK_SECONDS = 5.0  # between two looks whether the file is still there


class StatusPublisher:
    """The record that others see.

    `describe`: returns it. `others`: each makes something else in the run-time folder again, if it was removed.
    `manager`: that which has started the server, if one has; `words`: returns the line that it shows.
    """

    def __init__(
        self,
        pid_file: PidFile,
        describe: Callable[[], Mapping[str, object]],
        others: Sequence[Callable[[], object]] = (),
        manager: ServiceManager | None = None,
        words: Callable[[], str] = str,
    ) -> None:
        self._pid_file = pid_file
        self._describe = describe
        self._others = others
        self.manager = manager or ServiceManager()  #: the service manager, which shows one line of the status
        self._words = words
        self._said_at = 0.0
        self._written_at = 0.0
        self._has_failed = False
        self._look_due = 0.0

    def publish(self) -> None:
        """Write the record now."""
        self._written_at = time.monotonic()
        try:
            self._pid_file.write(self._describe())
        except (OSError, ConfigurationError) as error:
            if not self._has_failed:
                log.error("the status cannot be written (%s); the server goes on without", error)
            self._has_failed = True
        else:
            if self._has_failed:
                log.info("the status is written again")
            self._has_failed = False

    def tend(self) -> float:
        """Write what is due; return in how many seconds to look again."""
        now = time.monotonic()
        return min(self._tell_manager(now), self._write_due(now))

    def _tell_manager(self, now: float) -> float:
        if not self.manager.listens:
            return math.inf
        left = self._said_at + _PAUSE - now
        if left > 0:
            return left
        self._said_at = now
        self.manager.say(self._words())
        return math.inf

    def _write_due(self, now: float) -> float:
        if now >= self._look_due:
            self._look_due = now + _LOOK_SECONDS
            if self._pid_file.is_lost and not self._has_failed:
                log.warning("the files in the run-time folder were removed: they are made again")
                self.publish()
            if not self._pid_file.is_lost:
                for look_after in self._others:
                    look_after()
        if self._has_failed:
            left = self._written_at + _RETRY_SECONDS - now
            if left > 0:
                return left
            self.publish()
        return _RETRY_SECONDS if self._has_failed else self._look_due - now

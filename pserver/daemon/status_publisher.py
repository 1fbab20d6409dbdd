"""Keeps the daemon's record in the run-time folder up to date, as far as possible.

The record is for the time after a daemon was killed: the next daemon of its name reads it, and ``pserver stop``. A
living daemon answers on its control socket instead. On a full disk, or without the folder, the daemon keeps running: it
logs the error once, and writes the record again as soon as it can.

One rule holds for all files of the daemon in the run-time folder: it checks them every few seconds and replaces missing
ones, the pid file first. Without the lock of the pid file, the folder may belong to another server of this name.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence

from pserver.system.pidfile import PidFile
from pserver.systemd.notify import ServiceManager
from srp_tools.errors import ConfigurationError

log = logging.getLogger("pserver")

_PAUSE = 0.5  # minimum seconds between two status lines for the service manager; jobs may be short
_RETRY_SECONDS = 5.0  # after a write that failed
_LOOK_SECONDS = 5.0  # between two checks that the files still exist


class StatusPublisher:
    """Publishes the daemon's record.

    `describe`: returns the record. `others`: functions that each replace another missing file in the run-time folder.
    `manager`: the service manager that started the server, if any; `words`: returns the line that it shows.
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
                log.error("cannot write the status: %s; the server continues without it", error)
            self._has_failed = True
        else:
            if self._has_failed:
                log.info("wrote the status again")
            self._has_failed = False

    def tend(self) -> float:
        """Write the record if that is due; return the seconds until the next check."""
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
                log.warning("the files in the run-time folder were removed: the server creates them again")
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

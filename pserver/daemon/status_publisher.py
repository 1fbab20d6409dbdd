"""Lets others see what the daemon does: it keeps the status file up to date, as far as that can be done.

The file is for `pserver status` and people. A full disk or a folder that is gone ends nothing: that is logged once, and
the file is written again when it can be.

One rule holds for all that the daemon has in the run-time folder: it looks every few seconds, and makes again what was
removed. The pid file comes first. Without its lock the place may belong to another server of this name.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from pserver.system.pidfile import PidFile
from pserver.systemd.notify import ServiceManager, in_words
from srp_tools.errors import ConfigurationError

log = logging.getLogger("pserver")

_PAUSE = 0.2  # seconds at least between two times that others are told of slots; jobs may be short
_RETRY_SECONDS = 5.0  # after a write that failed
_LOOK_SECONDS = 5.0  # between two looks whether the file is still there


class StatusPublisher:
    """The status that others see.

    `describe`: returns the status. `slots`: returns the part of it that changes often, and that may be told late.
    `others`: each makes something else in the run-time folder again, if it was removed.
    `manager`: that which has started the server, if one has.
    """

    def __init__(
        self,
        pid_file: PidFile,
        describe: Callable[[], Mapping[str, object]],
        slots: Callable[[], dict[str, int]],
        others: Sequence[Callable[[], object]] = (),
        manager: ServiceManager | None = None,
    ) -> None:
        self._pid_file = pid_file
        self._describe = describe
        self._slots = slots
        self._others = others
        self.manager = manager or ServiceManager()  #: the service manager, which shows one line of the status
        self._shown: dict[str, int] = {}
        self._shown_at = 0.0
        self._has_failed = False
        self._look_due = 0.0

    def publish(self) -> None:
        """Let others see the status now."""
        self._shown, self._shown_at = self._slots(), time.monotonic()
        try:
            status = self._describe()
            self.manager.say(in_words(status))
            self._pid_file.write(status)
        except (OSError, ConfigurationError) as error:
            if not self._has_failed:
                log.error("the status cannot be written (%s); the server goes on without", error)
            self._has_failed = True
        else:
            if self._has_failed:
                log.info("the status is written again")
            self._has_failed = False

    def tend(self) -> float:
        """Publish what is due; return in how many seconds to look again."""
        now = time.monotonic()
        if now >= self._look_due:
            self._look_due = now + _LOOK_SECONDS
            if self._pid_file.is_lost and not self._has_failed:
                log.warning("the files in the run-time folder were removed: they are made again")
                self.publish()
            if not self._pid_file.is_lost:
                for look_after in self._others:
                    look_after()
        if self._has_failed:
            pause = _RETRY_SECONDS
        elif self._slots() != self._shown:
            pause = _PAUSE
        else:
            return self._look_due - now
        left = self._shown_at + pause - now
        if left > 0:
            return left
        self.publish()
        return _RETRY_SECONDS if self._has_failed else self._look_due - now

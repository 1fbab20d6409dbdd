"""Removes old results that were never recovered, once an hour; with ``--clean``, all of them at startup.

There may be many results on a slow file system, so the starter removes them in a separate process.
"""

import time
from collections.abc import Callable, Mapping

from pserver.config.server_config import ServerConfig

_PAUSE = 3600.0  # seconds
_ALL = -1e6  # days; includes results from the future, after a clock was set back


class OldResults:
    """The schedule for removing old results; `request`: sends a request to the starter."""

    def __init__(
        self, config: Callable[[], ServerConfig], request: Callable[[Mapping[str, object]], object]
    ) -> None:
        self._config = config
        self._request = request
        self._due = 0.0
        self._is_first = True

    def step(self) -> float:
        """Remove old results if that is due; return the seconds until the next time."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _PAUSE
            config = self._config()
            log = {"file": config.log_file and str(config.log_file), **vars(config.log_form())}
            days = config.keep_results
            if config.clean and self._is_first:
                days = _ALL
                self._request({"clean": config.name, "before": time.time(), "log": log})
            self._is_first = False
            self._request({"sweep": str(config.kept_folder()), "days": days, "log": log})
        return self._due - now

"""Has results removed that were never recovered, once in an hour; at the start all of them, if that is asked for.

There may be many, on a file system that is slow: the starter has a process of their own remove them.
"""

import time
from collections.abc import Callable, Mapping

from pserver.config.server_config import ServerConfig

_PAUSE = 3600.0  # seconds
_ALL = -1e6  # days; also those from the future, of a clock that was set back


class OldResults:
    """`request`: asks the starter for something."""

    def __init__(
        self, config: Callable[[], ServerConfig], request: Callable[[Mapping[str, object]], object]
    ) -> None:
        self._config = config
        self._request = request
        self._due = 0.0
        self._is_first = True

    def step(self) -> float:
        """Have them removed if that is due; return in how many seconds it is."""
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

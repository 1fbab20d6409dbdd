"""Has results removed that were never recovered, once in an hour.

There may be many, on a file system that is slow: the starter has a process of their own remove them.
"""

import time
from collections.abc import Callable, Mapping

from pserver.config.server_config import ServerConfig

_PAUSE = 3600.0  # seconds


class OldResults:
    """`request`: asks the starter for something."""

    def __init__(
        self, config: Callable[[], ServerConfig], request: Callable[[Mapping[str, object]], object]
    ) -> None:
        self._config = config
        self._request = request
        self._due = 0.0

    def step(self) -> float:
        """Have them removed if that is due; return in how many seconds it is."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _PAUSE
            config = self._config()
            log = {"file": config.log_file and str(config.log_file), **vars(config.log_form())}
            self._request({"sweep": str(config.kept_folder()), "days": config.keep_results, "log": log})
        return self._due - now

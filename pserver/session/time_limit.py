"""How long a command may run, by its option ``seconds``."""

import time
from dataclasses import dataclass
from typing import Any

from pconnect.commands.remote_errors import blame_limit


@dataclass
class TimeLimit:
    """How long a command may run."""

    seconds: float
    deadline: float
    passed: bool = False

    @classmethod
    def of(cls, seconds: float | None) -> "TimeLimit | None":
        """Return the limit of a command that begins now; ``None`` if it has none."""
        return None if seconds is None else cls(seconds, time.monotonic() + seconds)

    def explain(self, outcome: float | dict[str, Any]) -> None:
        """Call the interrupt by its reason, if that is how the command ended."""
        if isinstance(outcome, dict) and outcome["type"] == "KeyboardInterrupt":
            blame_limit(outcome, self.seconds)

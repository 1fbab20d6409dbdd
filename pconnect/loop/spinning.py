"""Waiting for what comes at once, without sleeping: waking up costs more than most answers take.

A processor that has nothing to do is halted, and on a virtual machine it takes 20 to 50 µs until it runs again. So the
client looks for a moment before it sleeps (doc/decisions/0018-spinning.md has the measurements). In between it yields:
where the server's process waits for the same processor, it runs then.
"""

import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

Events = TypeVar("Events")

SPIN_SECONDS: Final = 60e-6
_yield_processor: Callable[[], None] | None = getattr(os, "sched_yield", None)  # not on Windows


def spinning(wait: Callable[[float], Events], timeout: float) -> Events:
    """Return ``wait(timeout)``; what comes within `SPIN_SECONDS` is found without sleeping.

    `wait`: returns what has come, which is false if that is nothing, after at most so long; with 0, at once.
    """
    if timeout > 0 and _yield_processor is not None:
        end = time.perf_counter() + SPIN_SECONDS
        while time.perf_counter() < end:
            if events := wait(0):
                return events
            _yield_processor()
    return wait(timeout)

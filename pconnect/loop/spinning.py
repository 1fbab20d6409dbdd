"""Wait for imminent events without sleeping, because waking up costs more than most answers take.

An idle processor is halted, and on a virtual machine it takes 20 to 50 µs until it runs again. So the client polls for
a moment before it sleeps (doc/decisions/0018-spinning.md has the measurements). Between polls it yields the processor,
so a server process that waits for the same processor can run.
"""

import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

Events = TypeVar("Events")

SPIN_SECONDS: Final = 60e-6
_yield_processor: Callable[[], None] | None = getattr(os, "sched_yield", None)  # not on Windows


def spinning(wait: Callable[[float], Events], timeout: float) -> Events:
    """Return ``wait(timeout)``. Events within `SPIN_SECONDS` are found without sleeping.

    `wait`: returns the events of at most `timeout` seconds, false if there are none; with 0, it does not wait.
    """
    if timeout > 0 and _yield_processor is not None:
        end = time.perf_counter() + SPIN_SECONDS
        while time.perf_counter() < end:
            if events := wait(0):
                return events
            _yield_processor()
    return wait(timeout)

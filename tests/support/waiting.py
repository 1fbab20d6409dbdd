"""Waits for conditions, all with one deadline; for events in a network's loop, use its `run_until`."""

import os
import re
import select
import time
from collections.abc import Callable
from pathlib import Path

import psutil

DEADLINE = 40.0  # seconds; nothing here takes this long, even on a busy machine
TRIES = 5  # attempts for timing tests: fast code is sometimes slow on a busy machine, wrong code always


def wait_until(condition: Callable[[], bool], what: str, timeout: float = DEADLINE) -> None:
    """Poll for a condition that no descriptor signals."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"timed out after {timeout:g} s waiting for {what}"
        time.sleep(0.005)


def wait_for_line(log: Path, part: str | re.Pattern[str], count: int = 1) -> None:
    """Wait until a part of a line was logged at least `count` times."""
    pattern = re.compile(re.escape(part)) if isinstance(part, str) else part
    wait_until(lambda: len(pattern.findall(log.read_text())) >= count, f"{pattern.pattern!r} in {log}")


def wait_asleep(*pids: int) -> None:
    """Wait until processes sleep."""
    for pid in pids:
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_SLEEPING, f"process {pid} to sleep")  # noqa: B023 - called at once


def wait_gone(*pids: int, timeout: float = DEADLINE) -> None:
    """Wait for the end of processes, even if they are not children of this one."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ended = select.select([descriptor], [], [], timeout)[0]
            assert ended, f"process {pid} is still running after {timeout:g} s"
        finally:
            os.close(descriptor)

"""Waiting for conditions, with one deadline for all; the loop of a network has `run_until` for what happens in it."""

import os
import select
import time
from collections.abc import Callable

import psutil

DEADLINE = 40.0  # seconds; longer than anything here takes, also on a busy machine
TRIES = 5  # of what is quick, on a busy machine not each time, and slow each time if it is wrong


def wait_until(condition: Callable[[], bool], what: str, timeout: float = DEADLINE) -> None:
    """Wait for a condition that no descriptor tells."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}"
        time.sleep(0.005)


def wait_asleep(*pids: int) -> None:
    """Wait until processes wait themselves."""
    for pid in pids:
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_SLEEPING, f"process {pid} to sleep")  # noqa: B023 - called at once


def wait_gone(*pids: int, timeout: float = DEADLINE) -> None:
    """Wait for the end of processes, whoever's children they are."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ended = select.select([descriptor], [], [], timeout)[0]
            assert ended, f"process {pid} still runs after {timeout:g} s"
        finally:
            os.close(descriptor)

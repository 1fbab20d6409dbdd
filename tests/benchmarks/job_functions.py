"""Functions of the measured jobs."""

import time
from typing import Any


def nothing(_number: int = 0) -> None:
    """Do nothing."""


def size(array: Any) -> int:
    """Use an array, so the worker must have it."""
    return int(array.nbytes)


def sleep(seconds: float) -> None:
    """Take a while."""
    time.sleep(seconds)

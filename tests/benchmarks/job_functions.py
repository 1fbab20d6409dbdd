"""What the jobs that are measured do."""

import time
from typing import Any


def nothing(_number: int = 0) -> None:
    """Do nothing."""


def size(array: Any) -> int:
    """Use an array, so that who runs this must have it."""
    return int(array.nbytes)


def sleep(seconds: float) -> None:
    """Take a while."""
    time.sleep(seconds)

"""Child processes whose last words nobody wants to read: they die of what they are sent, thousands of times."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_children() -> Iterator[None]:
    """Have processes that are started meanwhile write their standard error to nowhere."""
    with contextlib.ExitStack() as stack:
        before = os.dup(2)
        stack.callback(os.close, before)
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        os.dup2(null, 2)
        stack.callback(os.dup2, before, 2)
        yield

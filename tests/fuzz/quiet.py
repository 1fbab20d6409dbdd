"""Child processes without error output: they die of their input thousands of times."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_children() -> Iterator[None]:
    """Discard the standard error of processes started in the block."""
    with contextlib.ExitStack() as stack:
        before = os.dup(2)
        stack.callback(os.close, before)
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        os.dup2(null, 2)
        stack.callback(os.dup2, before, 2)
        yield

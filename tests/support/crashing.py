"""Objects that fail at some moment of a job. The workers import this module, so it is small."""

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def _raise() -> None:
    raise LookupError("of the user")


def _crash() -> None:
    faulthandler.disable()  # the environment of the tests may have enabled it
    ctypes.string_at(0)


WAYS: dict[str, Callable[[], object]] = {
    "exception": _raise,
    "sys.exit": lambda: sys.exit(3),
    "os._exit": lambda: os._exit(7),
    "SIGSEGV": _crash,
}


def fail(way: str) -> Any:
    WAYS[way]()


def make(kind: Callable[..., Any], *args: Any) -> Any:
    return kind(*args)


def say_and_fail(way: str) -> None:
    print("the last words", flush=True)
    fail(way)


class FailsWhenPickled:
    def __init__(self, way: str) -> None:
        self.way = way

    def __reduce__(self) -> Any:
        fail(self.way)


class FailsWhenUnpickled:
    def __init__(self, way: str) -> None:
        self.way = way

    def __reduce__(self) -> Any:
        return fail, (self.way,)

    def __call__(self) -> None:
        """Make the object callable."""


class FailsWhenFreed:
    """Fails when it is freed, but not in the client."""

    def __init__(self, way: str, client: int) -> None:
        self.way = way
        self.client = client

    def __del__(self) -> None:
        if os.getpid() != self.client:
            fail(self.way)


class UnpicklableError(ValueError):
    """An exception that fails when it is pickled."""

    def __init__(self, way: str) -> None:
        super().__init__(f"pickling this: {way}")
        self.way = way

    def __reduce__(self) -> Any:
        fail(self.way)


class UnreadableError(ValueError):
    """An exception that can be pickled but not unpickled, a common mistake."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def raise_it(kind: Callable[..., BaseException], *args: Any) -> None:
    raise kind(*args)


def return_much_and_be_killed() -> Any:
    """Return 128 MiB and be killed when sending begins."""
    main = threading.main_thread().ident or 0

    def kill() -> None:
        while "_write" not in _functions(sys._current_frames()[main]):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill).start()
    return np.zeros(2**24)


def _functions(frame: Any) -> list[str]:
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


_freed: list[int] = []


def freed_by_now() -> list[int]:
    """Return one element for each object freed in this process."""
    return _freed


class CountsWhenFreed:
    def __del__(self) -> None:
        _freed.append(1)

"""Peers in separate processes, so the busy threads of some peers do not slow down the others.

The process receives requests through a pipe, and answers with a measured time or the reason of a failure. It ends with
all its child processes when the pipe closes, which happens at the latest when this process ends.
"""

import contextlib
import importlib
import multiprocessing
import signal
import statistics
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import FrameType
from typing import NamedTuple

import numpy as np

from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.placement import apart
from tests.benchmarks.timing import TRANSFER_BYTES

_START_SECONDS = 90.0
_WORK_SECONDS = 90.0
_END_SECONDS = 60.0
_KILL_SECONDS = 10.0
_REASON_LENGTH = 60  # fits into the table


_DIED = "its process died"


class FailedError(Exception):
    """A peer could not do its work; the text gives the reason."""


class _Failure(NamedTuple):
    reason: str


class _Introduction(NamedTuple):
    encryption: str
    note: str


class Apart:
    """A running peer that waits for work.

    Parameters
    ----------
    home
        The module of the peer, with a function `start`: a context manager that takes an array and yields a `Peer`.

    Raises
    ------
    FailedError
        The peer could not be started, for instance because it is not installed.
    """

    def __init__(self, home: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_live, args=(home, theirs))
        self._process.start()
        theirs.close()
        try:
            introduction = self._answer(_START_SECONDS)
        except BaseException:
            self.close()
            raise
        assert isinstance(introduction, _Introduction)
        self.encryption, self.note = introduction

    def measure(self, method: str, repeats: int) -> float:
        """Repeat some work; return the median of the seconds."""
        try:
            self._pipe.send((method, repeats))
        except BrokenPipeError:
            raise FailedError(_DIED) from None
        duration = self._answer(_WORK_SECONDS)
        assert isinstance(duration, float)
        return duration

    def close(self) -> None:
        """End the peer in order, or kill it if that takes too long."""
        self._pipe.close()
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(_KILL_SECONDS)
            self._process.kill()

    def _answer(self, limit: float) -> object:
        # A little more than the process's own limit, so it has time to report what it waited for.
        if not self._pipe.poll(limit + 5):
            raise FailedError(f"silent for {limit + 5:.0f} s")
        try:
            answer: object = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise FailedError(_DIED) from None
        if isinstance(answer, _Failure):
            raise FailedError(answer.reason)
        return answer


def _live(home: str, pipe: Connection) -> None:
    """Run as the other process: start the peer, do the requested work, end the peer."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so all child processes end in this case, too
    array = np.random.default_rng(1).standard_normal(TRANSFER_BYTES // 8)
    with contextlib.ExitStack() as stack:
        try:
            with _limit(_START_SECONDS):
                peer: Peer = stack.enter_context(importlib.import_module(home).start(array))
        except Exception as error:  # noqa: BLE001 - reports any error and measures the other peers
            pipe.send(_Failure(f"not started: {_reason(error)}"))
            return
        pipe.send(_Introduction(peer.encryption, peer.note))
        with contextlib.suppress(EOFError):
            while True:
                pipe.send(_measure(peer, *pipe.recv()))


def _measure(peer: Peer, method: str, repeats: int) -> float | _Failure:
    try:
        with _limit(_WORK_SECONDS):
            work: Callable[[], float] = getattr(peer, method)
            with apart() if method in {"call", "answer"} else contextlib.nullcontext():
                return statistics.median(work() for _ in range(repeats))
    except Exception as error:  # noqa: BLE001 - as above
        return _Failure(_reason(error))


@contextlib.contextmanager
def _limit(limit: float) -> Iterator[None]:
    """Raise TimeoutError in the block when its time is up, whatever a library is waiting for there."""

    def give_up(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"timed out after {limit:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _reason(error: BaseException) -> str:
    """Return the beginning of an error's message; for a group, of its first error."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= _REASON_LENGTH else f"{line[: _REASON_LENGTH - 3]}..."

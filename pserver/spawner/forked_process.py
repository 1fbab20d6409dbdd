"""A child of this process that runs a function, and of which nothing is left open if the system allows no more."""

import contextlib
import os
import select
import signal
from collections.abc import Callable
from multiprocessing.context import ForkProcess

from pserver.system.flush import flush_output

_KILLED_SECONDS = (
    5.0  # a busy system has to end what was killed; a process that waits for a dead disk takes for ever
)


class ForkedProcess:
    """A process that was forked to run `work`, with all that `multiprocessing` does in a new process.

    `pid`: its number, until `wait` has seen its end. `pidfd`: a descriptor that stands for it. Raises `OSError` if the
    system allows no more processes or descriptors: there is no process then, and nothing open. (The start of
    `multiprocessing.Process` would leave four pipes, and reap other children.)
    """

    def __init__(self, work: Callable[[], object]) -> None:
        flush_output()  # else both processes would write what waits there
        self._code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _run(work)
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except OSError:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise

    def wait(self, timeout: float) -> int | None:
        """Return how it ended; a negative number is a signal, ``None`` that it has not ended within some seconds."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if self._code is None and poll.poll(timeout * 1000):
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def end(self, patience: float) -> None:
        """Wait for its end for some seconds, and kill it if it is stopped or hangs; close the descriptor."""
        if self.wait(patience) is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait(_KILLED_SECONDS)
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.pidfd)


def _run(work: Callable[[], object]) -> None:
    code = 1
    try:
        code = ForkProcess(target=work)._bootstrap()  # type: ignore[attr-defined]
    finally:
        os._exit(code)

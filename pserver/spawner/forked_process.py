"""A child process that runs a function, and leaves nothing open if the system allows no further processes."""

import contextlib
import os
import select
import signal
from collections.abc import Callable
from multiprocessing.context import ForkProcess

from pserver.system.flush import flush_output

_KILLED_SECONDS = (
    5.0  # ending takes a moment on a busy system; a process that waits for a dead disk never ends
)


class ForkedProcess:
    """A process forked to run `work`, with the initialization that `multiprocessing` does in a new process.

    `pid`: its process number, valid until `wait` has seen its end. `pidfd`: a descriptor of the process. Raises
    `OSError` if the system allows no further processes or descriptors; then no process exists, and nothing is open.
    (Starting a `multiprocessing.Process` would leave four pipes open, and reap other children.)
    """

    def __init__(self, work: Callable[[], object]) -> None:
        flush_output()  # otherwise both processes would write the buffered output
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
        """Return the exit code, negative for a signal; ``None`` if it has not ended within `timeout` seconds."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if self._code is None and poll.poll(timeout * 1000):
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def end(self, patience: float) -> None:
        """Wait up to `patience` seconds for its end, then kill it; close the descriptor."""
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

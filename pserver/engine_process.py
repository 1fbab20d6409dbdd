"""The engine as its supervisor holds it: the process, and our end of everything between the two.

The supervisor forks it before the login of its client begins. At that moment the process is as the fork server made it,
with numpy loaded (which would take half a second) and without any secret that the engine could inherit. A fork server's
child cannot ask the fork server for another process: that would start a second fork server, cold.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Sequence
from multiprocessing.connection import Connection as PipeEnd

from pserver.engine import engine_main


class EngineProcess:
    """A process that waits for its set-up.

    Attributes
    ----------
    pid
        Its number, also that of its process group.
    pidfd
        A descriptor that stands for the process and can be read from when it has ended.
    pipe
        Where it takes commands; non-blocking.
    handover
        For the daemon, which passes data connections in here.
    outputs
        What it writes to its standard output, and to its standard error.
    """

    def __init__(self, not_for_it: Sequence[socket.socket]) -> None:
        self.pipe, its_pipe = socket.socketpair()
        self.handover, its_handover = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pairs = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
        self.outputs = tuple(reader for reader, _ in pairs)
        its_outputs = [writer for _, writer in pairs]
        its_lifeline, self._lifeline = multiprocessing.Pipe(duplex=False)
        ours: list[socket.socket | PipeEnd] = [self.pipe, self.handover, *self.outputs, self._lifeline]
        self._process = multiprocessing.get_context("fork").Process(
            target=_be_engine,
            args=([*not_for_it, *ours], its_pipe, its_handover, its_outputs, its_lifeline),
        )
        self._process.start()
        assert self._process.pid is not None  # noqa: S101 - it was started
        self.pid = self._process.pid
        # Not the sentinel of multiprocessing: processes that the engine forks would hold that, too.
        self.pidfd = os.pidfd_open(self.pid)
        its_pipe.close()
        its_handover.close()
        for end in (*its_outputs, its_lifeline):
            end.close()
        self.pipe.setblocking(False)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """End it, and whatever it has started."""
        # The process is not yet reaped, so the group is its own and no other's. The first moment it has none.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)
        self._process.join(5)

    def close(self) -> None:
        """Close our ends; for one that has ended."""
        self.pipe.close()
        self.handover.close()
        for end in (*self.outputs, self._lifeline):
            end.close()
        os.close(self.pidfd)

    def exit_code(self) -> int | None:
        """Return how it ended, after it has; a negative number is a signal. What it had started ends, too."""
        # Before it is reaped: until then, the number of its group can be no other's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()
        return self._process.exitcode


def _be_engine(
    not_for_it: Sequence[socket.socket | PipeEnd],
    pipe: socket.socket,
    handover: socket.socket,
    outputs: Sequence[PipeEnd],
    lifeline: PipeEnd,
) -> None:
    for end in not_for_it:
        end.close()
    engine_main(pipe, handover, outputs, lifeline)

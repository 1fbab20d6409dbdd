"""The engine as its supervisor holds it: the process, and our end of everything between the two.

A spawner starts the process; see `pserver.spawner.spawner_process`.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
from multiprocessing.connection import Connection

from pconnect.protocol.frames import PREAMBLE_BYTES
from pserver.engine.command_page import CommandPage, make_memory
from pserver.spawner.spawner import Spawner


class EngineProcess:
    """A process that waits for its set-up; after `start_anew`, another one.

    Attributes
    ----------
    pipe
        Where it is told things; non-blocking.
    page
        Says which command it runs, and which are to be stopped.
    handover
        For the daemon, which passes data connections in here, to this engine and to those after it.
    its_handover
        The other end, shared with the engine. Without an engine, `refuse_handover` takes what comes here.
    outputs
        What it writes to its standard output, and to its standard error.
    forks
        Where it is asked to fork workers; see `pserver.engine.forks`.
    """

    def __init__(self, spawner: Spawner) -> None:
        self.handover, self.its_handover = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.its_handover.setblocking(False)
        self.spawner = spawner
        self._begin()

    def _begin(self) -> None:
        self._pid = self._pidfd = -1  # learnt when asked for: meanwhile the process starts
        self.pipe, its_pipe = socket.socketpair()
        self.pipe.setblocking(False)
        self.forks, its_forks = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.forks.setblocking(False)
        pairs = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
        self.outputs: tuple[Connection, ...] = tuple(reader for reader, _ in pairs)
        with contextlib.ExitStack() as its_ends:
            its_ends.enter_context(its_pipe)
            its_ends.enter_context(its_forks)
            writers: list[socket.socket | Connection] = [
                its_ends.enter_context(writer) for _, writer in pairs
            ]
            ends = (its_pipe, self.its_handover, *writers, its_forks)
            memory = make_memory()
            its_ends.callback(os.close, memory)
            self.page = CommandPage(memory)
            self.spawner.request_engine([*(end.fileno() for end in ends), memory])

    def start_anew(self) -> None:
        """Start another process in the place of one that has ended and whose `exit_code` was asked for.

        What the daemon has passed on to the old one is closed. All attributes but the two handover ends are new.

        Raises `OSError` if that is impossible; the text says why. It is as after an engine that has ended.
        """
        self._close_ends()
        while self.refuse_handover():
            pass
        try:
            self._begin()
            self._learn_pid()
        except OSError:
            if self._pid > 0:  # it was started, and there is no room for the descriptor that stands for it
                self.spawner.end_engine()
            self._pid = 0
            raise

    @property
    def pid(self) -> int:
        """Its number, also that of its process group; 0 if it could not be started."""
        self._learn_pid()
        return self._pid

    @property
    def pidfd(self) -> int:
        """A descriptor that stands for the process and can be read from when it has ended."""
        self._learn_pid()
        return self._pidfd

    def _learn_pid(self) -> None:
        if self._pid < 0:
            self._pid = self.spawner.engine_pid()
            # Not the sentinel of multiprocessing: processes that the engine forks would hold that, too. The spawner
            # does not reap it before we say so: the number is still its own.
            self._pidfd = os.pidfd_open(self._pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def refuse_handover(self) -> bool:
        """Close one data connection that the daemon has passed on; return whether there was one."""
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self.its_handover, PREAMBLE_BYTES, 1, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return False
        for descriptor in descriptors:
            os.close(descriptor)
        return bool(data)

    def kill(self) -> None:
        """End it, and whatever it has started."""
        with contextlib.suppress(
            OSError
        ):  # it could not be started, or there is no room for another descriptor
            self._learn_pid()
        self.spawner.end_engine()

    def close(self) -> None:
        """Close our ends; for an engine that has ended."""
        self._close_ends()
        for end in (self.handover, self.its_handover):
            end.close()
        self.spawner.close()

    def _close_ends(self) -> None:
        self.pipe.close()
        self.forks.close()
        self.page.close()
        for end in self.outputs:
            end.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pid = self._pidfd = -1

    def exit_code(self) -> int:
        """Return how it ended, after it has; a negative number is a signal. What it had started ends, too."""
        code = self.spawner.end_engine()
        return -signal.SIGKILL if code is None else code  # it ended with the spawner


def describe_exit(code: int | None) -> str:
    """Return how a process ended in words.

    Examples
    --------
    >>> describe_exit(3), describe_exit(-9)
    ('exit status 3', 'SIGKILL')
    """
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit status {code}"

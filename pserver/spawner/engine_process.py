"""The supervisor's handle on its engine: the process, and the supervisor's ends of all sockets and pipes between them.

A spawner starts the process; see `pserver.spawner.spawner_process`.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

from pconnect.protocol.frames import PREAMBLE_BYTES
from pserver.engine.command_page import CommandPage, make_memory
from pserver.spawner.spawner import Spawner
from pserver.system.descriptors import NoRoomError, receive_descriptors
from pserver.system.processes import interrupt_main_thread
from srp_tools.errors import ConnectionLostError
from srp_tools.steps import Steps, Wait

START_TIMEOUT = 10.0  #: seconds for starting an engine, which takes milliseconds

_End = TypeVar("_End", socket.socket, Connection)


class EngineProcess:
    """A process that waits for its setup; each further `start` replaces it by a new one.

    Attributes
    ----------
    pid
        Its process number, also that of its process group; 0 until `start` has succeeded.
    pidfd
        A descriptor of the process that becomes readable when the process has ended.
    pipe
        The socket for messages to the engine; non-blocking.
    page
        Shows the running command and the commands to stop.
    handover
        The socket on which the daemon passes data connections to this engine and to its successors.
    its_handover
        The other end, shared with the engine. Without an engine, `refuse_handover` closes the connections.
    outputs
        The pipes of its standard output and its standard error.
    forks
        The socket for requests to fork workers; see `pserver.engine.forks`.
    waits_for
        What `start` waits for, in words.
    """

    pipe: socket.socket
    page: CommandPage
    outputs: Sequence[Connection]
    forks: socket.socket

    def __init__(self, spawner: Spawner) -> None:
        self.spawner = spawner
        self.pid, self.pidfd = 0, -1
        self.waits_for = ""
        self._is_asked_for = False  # requested, and not ended since
        self._ends = contextlib.ExitStack()  # the supervisor's ends of the sockets and pipes
        self.handover, self.its_handover = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.its_handover.setblocking(False)
        with contextlib.suppress(OSError):  # `start` tries again, and then raises the error
            self._ask()

    def start(self, request_spawner: Callable[[socket.socket], object]) -> Steps[None]:
        """Wait for the engine that was requested; request one if there is no request.

        If the spawner has ended, `Spawner.renew` replaces it, which needs `request_spawner`. Connections that the
        daemon has passed on to an earlier engine are closed. All attributes except the two handover ends and the
        spawner are new.

        Raises `OSError` if that is impossible; the text says why. The state is then the same as after the end of an
        engine.
        """
        self.waits_for = "the process that starts engines"
        has_renewed = False
        if not self._is_asked_for:
            self.pid = 0
        try:
            while not self.pid:
                try:
                    if not self._is_asked_for:
                        self._ask()
                    yield Wait(self.spawner.fileno())
                    self._learn_pid()
                except ConnectionLostError:
                    if has_renewed or not self.spawner.is_gone:
                        raise
                    has_renewed = True
                    self.waits_for = "the server's daemon, which must start a new process that starts engines"
                    self._is_asked_for = False
                    self.spawner.renew(request_spawner)
        except ConnectionLostError as error:
            self._forget()
            if has_renewed and self.spawner.is_gone:
                why = "the process that starts engines has ended, and the server's daemon has not started a new one"
                raise ConnectionLostError(f"{why}: check whether the server is running") from error
            raise
        except BaseException:
            self._forget()
            raise

    def _ask(self) -> None:
        """Request an engine from the spawner, with new sockets and pipes; on an error, the earlier ones stay."""
        while self.refuse_handover():
            pass
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:

            def keep(pair: tuple[_End, _End]) -> tuple[_End, _End]:
                return ours.enter_context(pair[0]), theirs.enter_context(pair[1])

            pipe, its_pipe = keep(socket.socketpair())
            forks, its_forks = keep(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            pairs = [keep(multiprocessing.Pipe(duplex=False)) for _ in range(2)]
            memory = make_memory()
            theirs.callback(os.close, memory)
            page = CommandPage(memory)
            ours.callback(page.close)
            writers = [writer.fileno() for _, writer in pairs]
            ends = [its_pipe.fileno(), self.its_handover.fileno(), *writers, its_forks.fileno(), memory]
            self.spawner.request_engine(ends)
            self._close_ends()
            self._ends = ours.pop_all()
        self._is_asked_for = True
        self.pipe, self.forks, self.page = pipe, forks, page
        self.outputs = tuple(reader for reader, _ in pairs)
        for end in (pipe, forks):
            end.setblocking(False)

    def _learn_pid(self) -> None:
        pid = self.spawner.engine_pid()
        # Do not use the sentinel of multiprocessing, which processes forked by the engine would also hold. The spawner
        # does not reap the engine before the supervisor says so: the number still belongs to it.
        self.pidfd = os.pidfd_open(pid)
        self.pid = pid

    def _forget(self) -> None:
        """Have the spawner end an engine that was requested but has not been found yet."""
        if self._is_asked_for and not self.pid:
            self._is_asked_for = False
            self.spawner.forget_engine()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def interrupt(self) -> None:
        """Send SIGINT to its main thread, unless it has ended."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                interrupt_main_thread(self.pid, self.pidfd)

    def refuse_handover(self) -> bool:
        """Close one data connection that the daemon has passed on; return whether there was one."""
        try:
            data, descriptors = receive_descriptors(self.its_handover, PREAMBLE_BYTES, 1)
        except BlockingIOError:
            return False
        except NoRoomError:  # the connection is closed already
            return True
        for descriptor in descriptors:
            os.close(descriptor)
        return bool(data)

    def kill(self) -> None:
        """Kill it with all processes that it has started; may be called repeatedly."""
        if self.pid and self._is_asked_for:
            self.exit_code()
        self._forget()

    def exit_code(self) -> int:
        """Return the exit code of an engine that has ended, negative for a signal; end the processes it has started."""
        self._is_asked_for = False
        code = self.spawner.end_engine()
        return -signal.SIGKILL if code is None else code  # it ended with the spawner

    def close(self) -> None:
        """Close the supervisor's ends; call this after the engine has ended."""
        self._close_ends()
        for end in (self.handover, self.its_handover):
            end.close()
        self.spawner.close()

    def _close_ends(self) -> None:
        self._ends.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self.pid, self.pidfd = 0, -1


def not_started(error: Exception, process: EngineProcess) -> str:
    """Return the reason why an engine could not be started, in words."""
    if isinstance(error, TimeoutError):
        return f"timed out after {START_TIMEOUT:g} s waiting for {process.waits_for}"
    if isinstance(error, OSError) and error.errno:
        place = f" ({error.filename})" if error.filename else ""
        return f"the session on the server cannot start an engine: {error.strerror}{place}"
    return str(error)

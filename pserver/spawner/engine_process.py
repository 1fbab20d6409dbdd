"""The engine as its supervisor holds it: the process, and our end of everything between the two.

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

START_TIMEOUT = 10.0  #: seconds for an engine to be started, which takes milliseconds

_End = TypeVar("_End", socket.socket, Connection)


class EngineProcess:
    """A process that waits for its set-up; after another `start`, another one.

    Attributes
    ----------
    pid
        Its number, also that of its process group; 0 until `start` has found it, and if it could not be started.
    pidfd
        A descriptor that stands for the process and can be read from when it has ended.
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
        self._is_asked_for = False  # and was not ended
        self._ends = contextlib.ExitStack()  # ours, of what the engine has the other ends of
        self.handover, self.its_handover = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.its_handover.setblocking(False)
        with contextlib.suppress(OSError):  # `start` tries again, and raises what it meets then
            self._ask()

    def start(self, request_spawner: Callable[[socket.socket], object]) -> Steps[None]:
        """Wait until the engine is there that was asked for; ask for one, if that is not so.

        If the spawner has ended, another one takes its place, for which `Spawner.renew` needs `request_spawner`. What
        the daemon has passed on to an engine before this one is closed. All attributes but the two handover ends and
        the spawner are new.

        Raises `OSError` if that is impossible; the text says why. It is as after an engine that has ended.
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
                    self.waits_for = (
                        "the server's daemon, which is to start another process that starts engines"
                    )
                    self._is_asked_for = False
                    self.spawner.renew(request_spawner)
        except ConnectionLostError as error:
            self._forget()
            if has_renewed and self.spawner.is_gone:
                why = "the process that starts engines has ended, and the server's daemon has not started another one"
                raise ConnectionLostError(f"{why}; is the server running?") from error
            raise
        except BaseException:
            self._forget()
            raise

    def _ask(self) -> None:
        """Ask the spawner for an engine, with new ends of everything; on an error those from before stay."""
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
        # Not the sentinel of multiprocessing: processes that the engine forks would hold that, too. The spawner does
        # not reap it before we say so: the number is still its own.
        self.pidfd = os.pidfd_open(pid)
        self.pid = pid

    def _forget(self) -> None:
        """Have an engine ended that is not there yet, whenever it comes."""
        if self._is_asked_for and not self.pid:
            self._is_asked_for = False
            self.spawner.forget_engine()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
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
        except NoRoomError:  # it is closed already
            return True
        for descriptor in descriptors:
            os.close(descriptor)
        return bool(data)

    def kill(self) -> None:
        """End it, and whatever it has started; nothing is done twice."""
        if self.pid and self._is_asked_for:
            self.exit_code()
        self._forget()

    def exit_code(self) -> int:
        """Return how it ended, after it has; a negative number is a signal. What it had started ends, too."""
        self._is_asked_for = False
        code = self.spawner.end_engine()
        return -signal.SIGKILL if code is None else code  # it ended with the spawner

    def close(self) -> None:
        """Close our ends; for an engine that has ended."""
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
    """Return why an engine could not be started, in words."""
    if isinstance(error, TimeoutError):
        return f"no engine was there within {START_TIMEOUT:g} s: waited for {process.waits_for}"
    if isinstance(error, OSError) and error.errno:
        place = f" ({error.filename})" if error.filename else ""
        return f"the session on the server cannot start it: {error.strerror}{place}"
    return str(error)

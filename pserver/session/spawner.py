"""The spawner, as its supervisor holds it: the process that starts engines, see `pserver.session.spawner_process`."""

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Sequence

from pserver.session.spawner_process import ADOPT, END, FOLDER, MESSAGE_BYTES, START, be_spawner
from srp_tools.errors import ConnectionLostError

# An answer takes some milliseconds. The end of a process takes longer if it has much memory to give back.
_TIMEOUT = 10.0
_END_TIMEOUT = 5.0


class Spawner:
    """The spawner, as its supervisor holds it.

    Parameters
    ----------
    not_for_engines
        What the supervisor has open and neither the spawner nor an engine may keep.

    Attributes
    ----------
    deaths
        Can be read from when `read_death` has something to tell.
    """

    def __init__(self, not_for_engines: Sequence[socket.socket]) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.deaths, its_deaths = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = multiprocessing.get_context("fork").Process(
            target=be_spawner, args=(theirs, its_deaths, [*not_for_engines, self._sock, self.deaths])
        )
        self._process.start()
        theirs.close()
        its_deaths.close()
        self.deaths.setblocking(False)
        self._sock.settimeout(_TIMEOUT)

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self._process.pid is not None  # noqa: S101 - it was started
        return self._process.pid

    def request_engine(self, ends: Sequence[int]) -> None:
        """Have an engine started, without waiting for that; `engine_pid` does.

        Parameters
        ----------
        ends
            Descriptors for the engine: its pipe, its handover, its standard output, its standard error, and where
            it is asked to fork workers.

        Raises
        ------
        ConnectionLostError
            The spawner is gone.
        """
        self._send(START, ends)

    def engine_pid(self) -> int:
        """Return the process number of the engine that was requested.

        Raises
        ------
        ConnectionLostError
            It could not be started; the text says why.
        """
        answer = self._receive()
        if not answer.isdigit():
            raise ConnectionLostError(f"the engine could not be started: {answer}")
        return int(answer)

    def end_engine(self) -> int | None:
        """Kill the engine and what it has started, and return how it ended; a negative number is a signal.

        ``None``: it hangs in the kernel, or the spawner is gone, and with it the engine.
        """
        with contextlib.suppress(ConnectionLostError):
            self._send(END)
            answer = self._receive()
            return int(answer) if answer else None
        return None

    def adopt(self, pid: int) -> None:
        """Have the end of a worker told, by `read_death`; then its group is gone, too.

        Raises
        ------
        ConnectionLostError
            The spawner is gone.
        """
        self._send(ADOPT + str(pid).encode())

    def inherit(self, folder: str) -> None:
        """Have a folder removed when the supervisor and all that it had started are gone.

        Raises
        ------
        ConnectionLostError
            The spawner is gone.
        """
        self._send(FOLDER + os.fsencode(folder))

    def read_death(self) -> tuple[int, int] | None:
        """Return the process number of a worker that has ended, and its exit code; ``None`` if there is none.

        Raises
        ------
        ConnectionLostError
            The spawner is gone: it will report no more.
        """
        try:
            words = self.deaths.recv(MESSAGE_BYTES).split()
        except BlockingIOError:
            return None
        if not words:
            raise ConnectionLostError("the process that starts engines is gone")
        return int(words[0]), int(words[1])

    def close(self) -> None:
        """End the spawner, and the engine and the workers if there are any."""
        self._sock.close()
        self.deaths.close()
        self._process.join(_END_TIMEOUT)

    def _send(self, request: bytes, descriptors: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self._sock, [request], descriptors)
        except OSError as error:
            raise ConnectionLostError(f"the process that starts engines is gone: {error}") from error

    def _receive(self) -> str:
        try:
            answer = self._sock.recv(MESSAGE_BYTES)
        except OSError as error:
            raise ConnectionLostError(f"the process that starts engines does not answer: {error}") from error
        if not answer:
            raise ConnectionLostError("the process that starts engines is gone")
        return answer[1:].decode()  # an empty answer would look like the end

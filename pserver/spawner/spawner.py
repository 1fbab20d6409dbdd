"""The spawner, seen from the session: the process that starts engines, see `pserver.spawner.spawner_process`."""

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Sequence

from pserver.spawner.spawner_process import ADOPT, END, FOLDER, MESSAGE_BYTES, NODE, START, be_spawner
from pserver.system.process_marks import kill_marked, make_mark
from srp_tools.errors import ConnectionLostError

# An answer takes some milliseconds. The end of a process takes longer if it has much memory to give back.
_TIMEOUT = 10.0
_END_TIMEOUT = 5.0


class SpawnerProcess:
    """The spawner, as the session process holds it.

    `not_for_it`: what the session process has open and neither the spawner nor an engine may keep.
    """

    def __init__(self, not_for_it: Sequence[socket.socket]) -> None:
        self._root, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = multiprocessing.get_context("fork").Process(
            target=be_spawner, args=(theirs, [*not_for_it, self._root])
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self._process.pid is not None  # noqa: S101 - it was started
        return self._process.pid

    def for_node(self) -> "Spawner":
        """Return what starts the engines of one more node.

        Raises `ConnectionLostError` if the spawner is gone.
        """
        mark = make_mark()
        sock, its_sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        deaths, its_deaths = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_sock, its_deaths:
            try:
                socket.send_fds(
                    self._root, [NODE + str(mark).encode()], [its_sock.fileno(), its_deaths.fileno()]
                )
            except OSError as error:
                sock.close()
                deaths.close()
                raise _gone(error) from error
        return Spawner(sock, deaths, mark)

    def close(self) -> None:
        """End the spawner, once the supervisors of all nodes have closed their ends."""
        self._root.close()
        self._process.join(_END_TIMEOUT)


class Spawner:
    """The spawner, as the supervisor of one node holds it; `SpawnerProcess.for_node` makes it."""

    def __init__(self, sock: socket.socket, deaths: socket.socket, mark: int) -> None:
        self.mark = mark  #: on all processes of the node, see `pserver.system.process_marks`
        self._sock = sock
        self._sock.settimeout(_TIMEOUT)
        self.deaths = deaths  #: can be read from when `read_death` has something to tell
        self.deaths.setblocking(False)

    def request_engine(self, ends: Sequence[int]) -> None:
        """Have an engine started, without waiting for that; `engine_pid` does.

        `ends`: descriptors for the engine: its pipe, its handover, its standard output, its standard error, and where
        it is asked to fork workers. Raises `ConnectionLostError` if the spawner is gone.
        """
        self._send(START, ends)

    def engine_pid(self) -> int:
        """Return the process number of the engine that was requested.

        Raises `ConnectionLostError` if it could not be started; the text says why.
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
        kill_marked(self.mark)
        return None

    def adopt(self, pid: int) -> None:
        """Have the end of a worker told, by `read_death`; then its group is gone, too.

        Raises `ConnectionLostError` if the spawner is gone.
        """
        self._send(ADOPT + str(pid).encode())

    def inherit(self, folder: str) -> None:
        """Have a folder removed when the supervisor and all that it had started are gone.

        Raises `ConnectionLostError` if the spawner is gone.
        """
        self._send(FOLDER + os.fsencode(folder))

    def read_death(self) -> tuple[int, int] | None:
        """Return the process number of a worker that has ended, and its exit code; ``None`` if there is none.

        Raises `ConnectionLostError` if the spawner is gone: it will report no more.
        """
        try:
            words = self.deaths.recv(MESSAGE_BYTES).split()
        except BlockingIOError:
            return None
        if not words:
            raise _gone()
        return int(words[0]), int(words[1])

    def close(self) -> None:
        """Have the engine and the workers ended, if there are any; the spawner does not wait for that."""
        self._sock.close()
        self.deaths.close()

    def _send(self, request: bytes, descriptors: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self._sock, [request], descriptors)
        except OSError as error:
            raise _gone(error) from error

    def _receive(self) -> str:
        try:
            answer = self._sock.recv(MESSAGE_BYTES)
        except OSError as error:
            raise ConnectionLostError(f"the process that starts engines does not answer: {error}") from error
        if not answer:
            raise _gone()
        return answer[1:].decode()  # an empty answer would look like the end


def _gone(error: OSError | None = None) -> ConnectionLostError:
    why = f" ({error})" if error else ""
    return ConnectionLostError(f"the process that starts engines is gone{why}: connect anew to get another")

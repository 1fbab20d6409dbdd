"""One MPI rank: waits for requests, carries them out with the other ranks, and reports the seconds."""

import socket
import sys
import time
from collections.abc import Callable

import numpy as np
from mpi4py import MPI

from tests.benchmarks.peers.mpi import CODES, REPORT

_CLIENT, _FIRST, _SECOND = range(3)


class Rank:
    """This process's part in each kind of work. The result is its measured time, or 0 if another rank measures."""

    def __init__(self, size: int) -> None:
        self._world = MPI.COMM_WORLD
        self.number = self._world.Get_rank()
        self._servers = self._world.Split(color=int(self.number != _CLIENT))
        self._array = np.random.default_rng(self.number).standard_normal(size)
        self._target = np.empty_like(self._array)
        self._scalar = np.zeros(1)
        self._empty = np.empty(0)

    def call(self) -> float:
        """Send a number from the client to the first server and back."""
        if self.number == _CLIENT:
            return self._timed(lambda: self._ask(self._scalar, self._scalar, _FIRST))
        self._answer(self._scalar, self._scalar, _CLIENT)
        return 0.0

    def put(self) -> float:
        return self._send_to(_CLIENT, _FIRST)

    def relay(self) -> float:
        return self._send_to(_FIRST, _SECOND)

    def get(self) -> float:
        """Ask the first server for the array."""
        if self.number == _CLIENT:
            return self._timed(lambda: self._ask(self._empty, self._target, _FIRST))
        self._answer(self._empty, self._array, _CLIENT)
        return 0.0

    def bcast(self) -> float:
        buffer = self._array if self.number == _CLIENT else self._target
        return self._together(self._world, lambda: self._world.Bcast(buffer, root=_CLIENT))

    def allreduce(self) -> float:
        return self._together(self._servers, lambda: self._servers.Allreduce(self._array, self._target))

    def _send_to(self, source: int, target: int) -> float:
        if self.number == source:
            return self._timed(lambda: self._ask(self._array, self._empty, target))
        self._answer(self._target, self._empty, source)
        return 0.0

    def _ask(self, question: object, answer: object, rank: int) -> None:
        self._world.Send(question, rank)
        self._world.Recv(answer, rank)

    def _answer(self, question: object, answer: object, rank: int) -> None:
        self._world.Recv(question, rank)
        self._world.Send(answer, rank)

    def _together(self, group: "MPI.Intracomm", work: Callable[[], None]) -> float:
        def all_of_it() -> None:
            work()
            group.Barrier()

        group.Barrier()
        return self._timed(all_of_it)

    @staticmethod
    def _timed(work: Callable[[], object]) -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin


def main() -> None:
    """Serve the process that listens on the path in the first argument until it closes the connection."""
    path, size = sys.argv[1:]
    rank = Rank(int(size))
    names = {code: name for name, code in CODES.items()}
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(bytes([rank.number]))
        while code := sock.recv(1):  # the end of that process ends the wait
            sock.sendall(REPORT.pack(getattr(rank, names[code[0]])()))


if __name__ == "__main__":
    main()

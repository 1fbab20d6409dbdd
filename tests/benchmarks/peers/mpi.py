"""MPI in the comparison: mpi4py with Open MPI, over TCP as between machines.

mpiexec starts the ranks. To alternate with other peers, each rank sleeps until this process sends it a request through
a local socket, because ranks that wait inside MPI keep the processors busy all the time.
"""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.benchmarks.peers.alone import ALONE, check_unshare, end
from tests.benchmarks.peers.peer import SERVERS, CannotError, Floats, Peer

RANKS = SERVERS + 1  # rank 0 is the client
REPORT = struct.Struct("!d")  # the seconds that a rank measured; the longest time counts
_START_SECONDS = 60.0
_WORK_SECONDS = 60.0

# The possible requests, and the ranks that take part.
PARTICIPANTS: Mapping[str, range] = {
    "call": range(2),
    "put": range(2),
    "get": range(2),
    "relay": range(1, 3),
    "bcast": range(RANKS),
    "allreduce": range(1, RANKS),
}
CODES = {name: code for code, name in enumerate(PARTICIPANTS)}

# Without "sm" among the byte transports, MPI uses no shared memory. Ranks that share a processor yield it while they
# wait.
OPTIONS = ["--oversubscribe", "--bind-to", "none"]
OPTIONS += ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"]
OPTIONS += ["--mca", "mpi_yield_when_idle", "1"]

# In the namespace, all processes are root, which Open MPI refuses by default.
ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


class Mpi(Peer):
    """Ranks 0 (the client) to 4."""

    note = (
        "the processes of one job, started together. Send and Recv of buffers over TCP, no shared memory; a call is 8 "
        "bytes there and back, without running any code."
    )

    def __init__(self, ranks: Mapping[int, socket.socket]) -> None:
        self._ranks = ranks

    def _run(self, name: str) -> float:
        ranks = [self._ranks[rank] for rank in PARTICIPANTS[name]]
        for sock in ranks:
            sock.sendall(bytes([CODES[name]]))
        reports: list[float] = [REPORT.unpack(_receive(sock, REPORT.size))[0] for sock in ranks]
        return max(reports)

    def connect(self) -> float:
        raise CannotError("no process can join a running job")

    def call(self) -> float:
        return self._run("call")

    def put(self) -> float:
        return self._run("put")

    def get(self) -> float:
        return self._run("get")

    def relay(self) -> float:
        return self._run("relay")

    def bcast(self) -> float:
        return self._run("bcast")

    def allreduce(self) -> float:
        return self._run("allreduce")


def _receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise ConnectionResetError("a rank has ended")
        data += part
    return data


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start the ranks; end them by closing the connections that they wait for."""
    program = mpiexec()
    check_unshare()
    with contextlib.ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-mpi-")), "control")
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(os.fspath(path))
        listener.listen(RANKS)
        rank = [sys.executable, "-m", "tests.benchmarks.peers.mpi_rank", os.fspath(path), str(array.size)]
        process = subprocess.Popen(
            [*ALONE, program, "-n", str(RANKS), *OPTIONS, *rank],
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        stack.callback(end, process)  # mpiexec ends its ranks
        ranks = _accept(listener, process)
        for sock in ranks.values():
            stack.callback(sock.close)
            sock.settimeout(_WORK_SECONDS)
        yield Mpi(ranks)


def mpiexec() -> str:
    """Return the path of mpiexec."""
    program = Path(sys.executable).with_name("mpiexec")
    if not program.exists():
        raise FileNotFoundError("mpiexec is not installed in this environment")
    return os.fspath(program)


def _accept(listener: socket.socket, process: subprocess.Popen[bytes]) -> dict[int, socket.socket]:
    """Wait for the ranks, or for the end of mpiexec."""
    listener.settimeout(0.2)
    deadline = time.monotonic() + _START_SECONDS
    ranks: dict[int, socket.socket] = {}
    while len(ranks) < RANKS:
        if process.poll() is not None:
            raise RuntimeError(f"mpiexec ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(ranks)} of {RANKS} ranks have connected after {_START_SECONDS:.0f} s")
        with contextlib.suppress(TimeoutError):
            sock, _ = listener.accept()
            sock.settimeout(_START_SECONDS)
            ranks[_receive(sock, 1)[0]] = sock
    return ranks

"""Programs in their own network namespace, controlled through a local socket.

Some systems listen on all addresses of the machine, or broadcast to its whole network. They run in a network namespace
that contains only the loopback device.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.peers.peer import CannotError, Peer

#: The words that run the rest of a command line in such a namespace.
ALONE = [
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    sys.executable,
    "-m",
    "tests.benchmarks.peers.mpi_launch",
]

_START_SECONDS = 60.0
_WORK_SECONDS = 85.0


def check_unshare() -> None:
    """Raise FileNotFoundError if no program can make a namespace."""
    if shutil.which("unshare") is None:
        raise FileNotFoundError("unshare (util-linux) is not installed")


@contextlib.contextmanager
def running_alone(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[Callable[[str], float]]:
    """Start a program that calls `serve` with the path added to its arguments; yield a function that requests work."""
    check_unshare()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-alone-"))
        path = Path(folder, "control")
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(os.fspath(path))
        listener.listen(1)
        process = subprocess.Popen(
            [*ALONE, *command, os.fspath(path)],
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(end, process)
        sock = stack.enter_context(_accept(listener, process))
        sock.settimeout(_WORK_SECONDS)
        answers = stack.enter_context(sock.makefile("r"))

        def ask(method: str) -> float:
            sock.sendall(f"{method}\n".encode())
            line = answers.readline()
            if not line:
                raise ConnectionResetError("its program has ended")
            answer = json.loads(line)
            if "cannot" in answer:
                raise CannotError(answer["cannot"])
            return float(answer["seconds"])

        yield ask


def serve(path: str, peer: Peer) -> None:
    """Do work for the process that listens on a path, until it closes the connection."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        for line in sock.makefile("r"):
            try:
                answer = {"seconds": getattr(peer, line.strip())()}
            except Exception as error:  # noqa: BLE001 - reports any error
                answer = {"cannot": str(error) or type(error).__name__}
            sock.sendall(f"{json.dumps(answer)}\n".encode())


class Elsewhere(Peer):
    """A peer for jobs whose client is a separate program."""

    def __init__(self, ask: Callable[[str], float]) -> None:
        self._ask = ask

    def call(self) -> float:
        return self._ask("call")

    def many(self) -> float:
        return self._ask("many")

    def map(self) -> float:
        return self._ask("map")

    def put(self) -> float:
        return self._ask("put")

    def share(self) -> float:
        return self._ask("share")


def _accept(listener: socket.socket, process: subprocess.Popen[bytes]) -> socket.socket:
    """Wait until the program has connected or ended."""
    listener.settimeout(0.2)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"its program ended with {process.returncode}")
        with contextlib.suppress(TimeoutError):
            return listener.accept()[0]
    raise TimeoutError(f"timed out after {_START_SECONDS:.0f} s waiting for its program")


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str], grace: float = 10.0) -> None:
    """Wait for a program to end by itself; then terminate it, and finally kill it."""
    for force in (process.terminate, process.kill):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
            return
        force()
        grace = 10.0
    process.wait()

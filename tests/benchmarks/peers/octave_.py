"""GNU Octave's parallel package in the comparison.

It needs ``octave-cli`` on ``PATH`` and a parallel package that was built with TLS. Its ports are fixed and open on all
addresses, so client and server run in a network namespace that contains only the loopback device, and there can be one
server only. If no other server is running, but ``/tmp/.octave-HOST.pid`` exists, a killed run has left it: remove it,
because the server does not start beside it.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.peers.alone import Elsewhere, check_unshare, end
from tests.benchmarks.peers.peer import WORKERS, CannotError, Floats, Peer

# Its server refuses to run as root, so the only user of the namespace is not root. It keeps the right to enable the
# loopback device.
_ALONE = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "--net"]
# All processes end with the first one, also the server, which goes to the background.
_ALONE += ["--pid", "--fork", "--kill-child"]
_ALONE += [sys.executable, "-m", "tests.benchmarks.peers.mpi_launch"]


class Octave(Elsewhere):
    """A client and one server."""

    encryption = "TLS 1.2"

    def __init__(self, ask: Callable[[str], float], version: str) -> None:
        super().__init__(ask)
        self.note = (
            f"Octave {version}. TLS-SRP also for data. A call is reval and precv of a scalar, an answer is psend and "
            "precv, while a loop on the server waits in precv. Client and server find each other on fixed ports, so "
            "one machine has one server."
        )

    def connect(self) -> float:
        return self._ask("connect")

    def answer(self) -> float:
        return self._ask("answer")

    def get(self) -> float:
        return self._ask("get")

    def relay(self) -> float:
        raise CannotError("one machine has one server")


@contextlib.contextmanager
def running_client(array: Floats) -> Iterator[tuple[Callable[[str], float], str]]:
    """Start the client, which starts the server; yield a function that requests work, and the version."""
    program = shutil.which("octave-cli")
    if program is None:
        raise FileNotFoundError("octave-cli is not on PATH")
    check_unshare()
    script = os.fspath(Path(__file__).with_name("octave_client.m"))
    command = [*_ALONE, program, "--no-gui", "--quiet", script, str(WORKERS), str(array.size)]
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            start_new_session=True,  # without a terminal, Octave reads the password from standard input
        )
        stack.callback(end, process)
        requests, answers = process.stdin, process.stdout
        assert requests and answers
        stack.callback(requests.close)

        def answer(kind: str) -> str:
            for line in answers:
                word, _, text = line.strip().partition(" ")
                if word == kind:
                    return text
                if word == "error":
                    raise CannotError(text)
            raise ConnectionResetError("its program has ended")

        def ask(work: str) -> float:
            # fgetl() returns a line only when it has seen the first character after it.
            requests.write(f"{work}\n\n")
            return float(answer("seconds"))

        # A random password, which the package makes of an empty line, sometimes has a character that it rejects.
        requests.write("of-no-importance\n")
        yield ask, answer("ready")


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start client and server."""
    with running_client(array) as (ask, version):
        yield Octave(ask, version)

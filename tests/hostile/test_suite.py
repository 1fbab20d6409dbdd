"""An honest client connects repeatedly during attacks: it always succeeds, about as fast as on a quiet server.

Afterwards the daemon and the starter of its sessions have no more descriptors, processes and memory than before.
`tests.support.attacks` has the attacks. Separate tests cover other attacks: password guesses and exhausted descriptors
in `tests.hostile.test_door`; replayed preambles, certificates of other networks, wrong nodes and proxies in
`tests.hostile.test_preamble`; peers that want a weak login in `tests.hostile.test_downgrade`.
"""

import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from srp_tools.credentials import Credentials
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.attacks import ATTACKS, Target
from tests.support.servers import Server, make_users, open_files, run_server
from tests.support.strangers import MEGABYTE, connect_and_leave
from tests.support.waiting import DEADLINE, wait_until

MALLORY = Credentials("mallory", "an ordinary user")
QUIET = 5
NOISE = 1.0  # seconds that other tests on this machine may add; a client that is locked out waits for several
GROWTH = 2 * MEGABYTE


@dataclasses.dataclass(frozen=True)
class Footprint:
    """The resources of one process."""

    descriptors: int
    children: int
    bytes: int  # memory that no other process shares

    @classmethod
    def of(cls, pid: int) -> "Footprint":
        process = psutil.Process(pid)
        return cls(open_files(pid), len(process.children()), process.memory_full_info().uss)

    def fits_in(self, before: "Footprint") -> bool:
        return (
            self.descriptors <= before.descriptors
            and self.children <= before.children
            and self.bytes <= before.bytes + GROWTH
        )


def footprints(server: Server) -> list[Footprint]:
    """Return the footprints of the daemon and of its starter."""
    [starter] = [
        child.pid
        for child in psutil.Process(server.process.pid).children()
        if "starter" in " ".join(child.cmdline())
    ]
    return [Footprint.of(pid) for pid in (server.process.pid, starter)]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("suite")
    users = make_users(folder)
    VerifierFile(users[1]).add(make_verifier(MALLORY, 2048))
    limits = ("--silence-timeout=3", "--proof-timeout=2", "--login-timeout=6")
    with run_server(folder / "server", *limits, users=users) as server:
        for _ in range(10):  # until all modules are loaded
            connect_and_leave(server)
        yield server


@contextlib.contextmanager
def as_before(server: Server) -> Iterator[None]:
    """Check that the server's processes have the same resources afterwards as before."""
    wait_until(lambda: not server.status_now()["sessions"], "the end of all sessions")
    before = footprints(server)
    yield
    wait_until(
        lambda: (
            not server.status_now()["sessions"]
            and all(now.fits_in(then) for now, then in zip(footprints(server), before, strict=True))
        ),
        f"the server to be as before: {before}, now {footprints(server)}",
    )


@contextlib.contextmanager
def attack(name: str, target: Target) -> Iterator[subprocess.Popen[str]]:
    """Run an attack on the server in a process that ends by itself."""
    command = [sys.executable, "-m", "tests.support.attacks", name]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(dataclasses.asdict(target)))
            process.stdin.close()
            assert process.stdout.readline() == "begun\n"
            yield process
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_an_honest_client_comes_and_goes(attacked: Server, name: str) -> None:
    with as_before(attacked), attacked.connect() as living:
        quiet = statistics.median(connect_and_leave(attacked) for _ in range(QUIET))
        target = Target(
            attacked.cmd_port, attacked.data_port, living.network_id, MALLORY.user, MALLORY.password
        )
        disturbed: list[float] = []
        with attack(name, target) as attacker:
            while attacker.poll() is None or len(disturbed) < QUIET:
                disturbed.append(connect_and_leave(attacked))
        assert living[1].eval("1 + 1").result(DEADLINE) == 2
        assert statistics.median(disturbed) <= 2 * quiet + NOISE, (quiet, disturbed)
    assert "Traceback" not in attacked.log

"""Two machines whose cable is pulled, that hear only one way, or whose address changes: what the client sees.

They are two network namespaces that a cable joins, each held by a process that sleeps.
"""

import contextlib
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lans import holder
from tests.support.programs import program
from tests.support.servers import make_users
from tests.support.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.slow

PEER_TIMEOUT = 6
SILENT = re.compile(r"no answer from the peer's machine for (\d+) s")
# Says what it does, and shows how the command ends that never would.
CLIENT = """
import os, sys, time
from pconnect import pconnect
_, user, password, timeout = sys.argv
net = pconnect(["10.78.0.2"], user=user, password=password, peer_timeout=float(timeout), local_links=False)
assert net.eval("1 + 1").result() == [2]
job = net.submit(time.sleep, 600)
while not job.running():
    time.sleep(0.05)
command = net[1].eval("precv(sockets[0])")
print("ready", flush=True)
words = sys.stdin.readline().strip()
if words == "go on":
    from pconnect import psend
    psend(5, net[1])
    print("value", command.result(60), flush=True)
else:
    print("command", type(command.exception(60)).__name__, command.exception(), flush=True)
    print("job", type(job.exception(60)).__name__, job.exception(60), flush=True)
os._exit(0)
"""


class Machines:
    """`near`, of the client, and `far`, of the server; `run` runs a command of ``ip`` on one of them."""

    def __init__(self, near: int, far: int, enter: list[str]) -> None:
        self._pids = {"near": near, "far": far}
        self._enter = enter

    def at(self, machine: str) -> list[str]:
        pid = self._pids[machine]
        return ["nsenter", f"--net=/proc/{pid}/ns/net", *self._enter]

    def ip(self, machine: str, command: str) -> None:
        subprocess.run([*self.at(machine), "ip", *command.split()], check=True, timeout=DEADLINE)


@pytest.fixture
def machines() -> Iterator[Machines]:
    for name, package in {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}.items():
        program(name, package)
    is_root = os.geteuid() == 0
    with contextlib.ExitStack() as stack:
        near = stack.enter_context(
            holder(["unshare", "--net", *([] if is_root else ["--user", "--map-root-user"])])
        )
        enter = [] if is_root else [f"--user=/proc/{near}/ns/user", "--preserve-credentials"]
        far = stack.enter_context(holder([*(["nsenter", *enter] if enter else []), "unshare", "--net"]))
        made = Machines(near, far, enter)
        made.ip("near", f"link add cable type veth peer name cable netns {far}")
        for machine, number in (("near", 1), ("far", 2)):
            made.ip(machine, "link set lo up")
            made.ip(machine, f"addr add 10.78.0.{number}/24 dev cable")
            made.ip(machine, "link set cable up")
        yield made


@contextlib.contextmanager
def connected(machines: Machines, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a server on the far machine and a client on the near one, which runs a command and a job that never end."""
    credentials, auth_file = make_users(folder / "users")
    server = subprocess.Popen(
        [*machines.at("far"), sys.executable, "-m", "pserver", "start", "--foreground", "--allow-root",
         "--bind=10.78.0.2", f"--auth-file={auth_file}", f"--log-file={folder / 'log'}", "--slots=1"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PSERVER_RUNTIME_DIR": str(folder)},
    )  # fmt: skip
    client: subprocess.Popen[str] | None = None
    try:
        assert server.stdout is not None and "listens" in server.stdout.readline()
        client = subprocess.Popen(
            [*machines.at("near"), sys.executable, "-c", CLIENT,
             credentials.user, credentials.password, str(PEER_TIMEOUT)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert client.stdout is not None and select.select([client.stdout], [], [], DEADLINE)[0]
        assert client.stdout.readline() == "ready\n"
        yield client
    finally:
        for process in (client, server):
            if process is not None and process.poll() is None:
                process.terminate()
                process.communicate(timeout=DEADLINE)


def told_after(client: "subprocess.Popen[str]", words: str) -> list[str]:
    """Return the lines that the client shows when it has heard `words`."""
    return client.communicate(words + "\n", timeout=2 * DEADLINE)[0].splitlines()


def pull(machines: Machines) -> None:
    machines.ip("far", "link set cable down")


def block_what_comes_back(machines: Machines) -> None:
    machines.ip("far", "neigh replace 10.78.0.1 lladdr 02:00:00:00:00:99 dev cable nud permanent")


def block_what_goes_out(machines: Machines) -> None:
    machines.ip("near", "neigh replace 10.78.0.2 lladdr 02:00:00:00:00:99 dev cable nud permanent")


def change_the_servers_address(machines: Machines) -> None:
    machines.ip("far", "addr del 10.78.0.2/24 dev cable")
    machines.ip("far", "addr add 10.78.0.3/24 dev cable")


def change_our_address(machines: Machines) -> None:
    machines.ip("near", "addr del 10.78.0.1/24 dev cable")
    machines.ip("near", "addr add 10.78.0.3/24 dev cable")


@pytest.mark.parametrize(
    "fault",
    [
        pull,
        block_what_comes_back,
        block_what_goes_out,
        change_the_servers_address,
        change_our_address,
    ],
)
def test_a_link_that_is_silent_is_called_so(machines: Machines, tmp_path: Path, fault: object) -> None:
    assert callable(fault)
    with connected(machines, tmp_path) as client:
        begin = time.monotonic()
        fault(machines)
        told = told_after(client, "how did it end?")
        assert time.monotonic() - begin < DEADLINE
    assert told[0].startswith("command ConnectionLostError ") and told[1].startswith("job JobLostError ")
    for line in told:
        assert "closed the connection" not in line
        found = SILENT.search(line)
        assert found is not None, "\n".join(told)
        assert PEER_TIMEOUT - 2 <= int(found[1]) <= DEADLINE


def test_a_cable_that_is_put_back_in_time_harms_nothing(machines: Machines, tmp_path: Path) -> None:
    with connected(machines, tmp_path) as client:
        pull(machines)
        time.sleep(PEER_TIMEOUT / 3)
        machines.ip("far", "link set cable up")
        assert told_after(client, "go on") == ["value 5"]


def test_the_server_lets_go_of_a_client_that_is_gone(machines: Machines, tmp_path: Path) -> None:
    with connected(machines, tmp_path):
        pull(machines)
        log = tmp_path / "log"
        ended = "the end of the session"
        wait_until(lambda: SILENT.search(log.read_text()) is not None, ended, timeout=2 * DEADLINE)
        assert "closed the connection" not in log.read_text()

"""Two machines with a pulled cable, a link that works one way, or a changed address, as the client sees it."""

import contextlib
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lans import Lans
from tests.support.servers import make_users
from tests.support.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.slow

PEER_TIMEOUT = 6
SILENT = re.compile(r"no answer from the peer's machine for (\d+) s")
# Reports its steps, and prints how a command ends that would run forever.
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


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Lans]:
    """Return the machines `near`, of the client, and `far`, of the server."""
    with contextlib.ExitStack() as stack:
        lans = Lans(stack, tmp_path)
        lans.lan("cable")
        for name, number in (("near", 1), ("far", 2)):
            lans.machine(name, cable=f"10.78.0.{number}/24")
        yield lans


@contextlib.contextmanager
def connected(machines: Lans, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a server on the far machine and a client on the near one, with a command and a job that never end."""
    credentials, auth_file = make_users(folder / "users")
    machines.serve("far", auth_file)
    client = subprocess.Popen(
        [*machines.at("near"), sys.executable, "-c", CLIENT,
         credentials.user, credentials.password, str(PEER_TIMEOUT)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert client.stdout is not None and select.select([client.stdout], [], [], DEADLINE)[0]
        assert client.stdout.readline() == "ready\n"
        yield client
    finally:
        if client.poll() is None:
            client.terminate()
            client.communicate(timeout=DEADLINE)


def told_after(client: "subprocess.Popen[str]", words: str) -> list[str]:
    """Send `words` to the client and return the lines that it prints then."""
    return client.communicate(words + "\n", timeout=2 * DEADLINE)[0].splitlines()


def pull(machines: Lans) -> None:
    machines.run("far", "ip link set cable down")


def block_what_comes_back(machines: Lans) -> None:
    machines.run("far", "ip neigh replace 10.78.0.1 lladdr 02:00:00:00:00:99 dev cable nud permanent")


def block_what_goes_out(machines: Lans) -> None:
    machines.run("near", "ip neigh replace 10.78.0.2 lladdr 02:00:00:00:00:99 dev cable nud permanent")


def change_the_servers_address(machines: Lans) -> None:
    machines.run("far", "ip addr del 10.78.0.2/24 dev cable")
    machines.run("far", "ip addr add 10.78.0.3/24 dev cable")


def change_our_address(machines: Lans) -> None:
    machines.run("near", "ip addr del 10.78.0.1/24 dev cable")
    machines.run("near", "ip addr add 10.78.0.3/24 dev cable")


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
def test_a_link_that_is_silent_is_called_so(machines: Lans, tmp_path: Path, fault: object) -> None:
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


def test_a_cable_that_is_put_back_in_time_harms_nothing(machines: Lans, tmp_path: Path) -> None:
    with connected(machines, tmp_path) as client:
        pull(machines)
        time.sleep(PEER_TIMEOUT / 3)
        machines.run("far", "ip link set cable up")
        assert told_after(client, "go on") == ["value 5"]


def test_the_server_lets_go_of_a_client_that_is_gone(machines: Lans, tmp_path: Path) -> None:
    with connected(machines, tmp_path):
        pull(machines)
        ended = "the end of the session"
        wait_until(lambda: SILENT.search(machines.log_of("far")) is not None, ended, timeout=2 * DEADLINE)
        assert "closed the connection" not in machines.log_of("far")

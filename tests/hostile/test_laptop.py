"""Clients that lose their network for a while and return with another address, like a closed laptop."""

import contextlib
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.ctl.asking import Question
from tests.support.lans import Lans
from tests.support.servers import make_users
from tests.support.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.slow

# Meanwhile the client runs a map or is idle; both have variables in their workspaces.
CLIENT = """
import os, sys, time, warnings
from pconnect import pconnect
warnings.simplefilter("ignore")
_, what, host, user, password, file = sys.argv
net = pconnect([host + "*2"], user=user, password=password, peer_timeout=1.5, local_links=False, resume=file)
net.push(x=5)
def work(k):
    time.sleep(0.02)
    return k + x
def said(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__ + " " + str(error).replace(chr(10), " ")
if what == "map":
    results = net.map(work, range(300))
    got = [next(results) for _ in range(20)]
    print("ready", flush=True)
    print(said(lambda: got + list(results) == [k + 5 for k in range(300)]), flush=True)
else:
    print("ready", flush=True)
    sys.stdin.readline()
    print(said(net[1].eval("1").result), flush=True)
print(repr(net).replace(chr(10), " "), flush=True)
print(said(net.reconnect), flush=True)
print(said(lambda: (net.pull("x"), net.eval("sockets.nodes").result(30), list(net.map(work, range(5))))), flush=True)
os._exit(0)
"""
PATIENT, STRICT = "10.78.0.2", "10.78.0.3"
WHOLE = "([5, 5], [[0, 1, 2], [0, 1, 2]], [5, 6, 7, 8, 9])"


class Client:
    """A client on the laptop that has begun its work."""

    def __init__(self, laptop: "Laptop", what: str, host: str) -> None:
        user = laptop.credentials
        self._process = subprocess.Popen(
            [*laptop.lans.at("laptop"), sys.executable, "-c", CLIENT, what, host, user.user, user.password,
             str(laptop.folder / f"{what}-{host}")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        laptop.stack.callback(self._end)

    def line(self) -> str:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], 2 * DEADLINE)[0], (
            "timed out waiting for the client"
        )
        return self._process.stdout.readline().strip()

    def rest(self) -> list[str]:
        """Let it continue, and return its report."""
        return self._process.communicate("go on\n", timeout=2 * DEADLINE)[0].splitlines()

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate(timeout=DEADLINE)


class Laptop:
    """A machine with clients, and two servers elsewhere; `patient` lets sessions wait for their clients."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.credentials, auth_file = make_users(folder / "users")
        self.lans = Lans(stack, folder)
        self.lans.lan("cable")
        for name, address in (("laptop", "10.78.0.1"), ("patient", PATIENT), ("strict", STRICT)):
            self.lans.machine(name, cable=f"{address}/24")
        self.lans.serve("patient", auth_file, "--slots=4", "--orphan-timeout=10")
        self.lans.serve("strict", auth_file, "--slots=4")

    def clients(self) -> dict[tuple[str, str], Client]:
        """Start a client of each kind on each server; return them when all are working."""
        made = {
            (what, host): Client(self, what, host) for what in ("map", "pause") for host in (PATIENT, STRICT)
        }
        assert [client.line() for client in made.values()] == ["ready"] * 4
        return made

    def sessions(self, server: str) -> list[bool]:
        """Return for each session of a server whether it is waiting for its client."""
        [socket] = (self.folder / server).rglob(f"{server}.control")
        question = Question(socket, {"do": "statistics", "brief": True})
        return [
            each["orphaned"] is not None for each in question.answer(time.monotonic() + DEADLINE)["sessions"]
        ]

    def sleep(self) -> None:
        self.lans.run("laptop", "ip addr del 10.78.0.1/24 dev cable")

    def wake_elsewhere(self) -> None:
        self.lans.run("laptop", "ip addr add 10.78.0.4/24 dev cable")


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    with contextlib.ExitStack() as stack:
        yield Laptop(stack, tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("silence", [3, 60])
def test_nothing_is_lost_where_sessions_wait_and_errors_say_where_none_does(
    laptop: Laptop, silence: int
) -> None:
    """The clients notice it within 1.5 s, the servers only after a minute: then all sessions are orphaned or gone."""
    clients = laptop.clients()
    assert [laptop.sessions(server) for server in ("patient", "strict")] == [[False] * 2] * 2
    began = time.monotonic()
    laptop.sleep()
    if silence == 60:
        wait_until(
            lambda: laptop.sessions("patient") == [True] * 2, "the patient server to notice", timeout=60
        )
        wait_until(
            lambda: laptop.sessions("strict") == [], "the other server to end its sessions", timeout=60
        )
    time.sleep(max(0.0, began + silence - time.monotonic()))
    laptop.wake_elsewhere()
    said = {which: client.rest() for which, client in clients.items()}
    of_map, of_pause = said["map", PATIENT], said["pause", PATIENT]
    assert [of_map[0], *of_map[2:]] == ["True", "[1, 2]", WHOLE]
    assert "it runs jobs again, after" in of_map[1]
    assert of_pause[0].startswith("ConnectionLostError") and of_pause[2:] == ["[1, 2]", WHOLE]
    of_map, of_pause = said["map", STRICT], said["pause", STRICT]
    assert of_map[0].startswith("JobLostError") and of_pause[0].startswith("ConnectionLostError")
    assert "which needs a server with --orphan-timeout" in of_map[0]
    for lines in (of_map, of_pause):
        assert lines[2].startswith("ConnectError") and "started without --orphan-timeout" in lines[2]
        assert "net.reconnect(1, fresh=True)" in lines[2]

"""A client whose own network is gone for a while, and then has another address: a laptop whose lid was closed."""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.test_cables import Machines
from tests.hostile.test_cables import machines as machines  # noqa: PLC0414 - a fixture
from tests.support.servers import make_users
from tests.support.waiting import DEADLINE

pytestmark = pytest.mark.slow

#: Longer than the client's peer timeout; `LAPTOP_SILENCE=60` is what the figures in doc/decisions come from.
SILENCE = float(os.environ.get("LAPTOP_SILENCE", "3"))
CLIENT = """
import os, sys, time, warnings
from pconnect import pconnect
warnings.simplefilter("ignore")
_, user, password, file = sys.argv
net = pconnect(["10.78.0.2*2"], user=user, password=password, peer_timeout=1.5, local_links=False, resume=file)
net.push(x=5)
def work(k):
    time.sleep(0.02)
    return k + x
def hear():
    return sys.stdin.readline()
try:
    results = net.map(work, range(300), retries=1)
    got = [next(results) for _ in range(20)]
    print("ready", flush=True)
    got += results
    print("map", got == [k + 5 for k in range(300)], flush=True)
except Exception as error:
    print("map", type(error).__name__, str(error).replace(chr(10), " "), flush=True)
print(repr(net).replace(chr(10), " "), flush=True)
try:
    began = time.monotonic()
    print("back", net.reconnect(), net.pull("x"), net.eval("sockets.nodes").result(30), flush=True)
    hear()
    try:
        net[1].eval("1").result(30)
    except Exception as error:
        print("lost", type(error).__name__, flush=True)
    print("back", net.reconnect(), net.pull("x"), flush=True)
    print("again", list(net.map(work, range(5))), flush=True)
except Exception as error:
    print("back", type(error).__name__, str(error).replace(chr(10), " "), flush=True)
os._exit(0)
"""


@contextlib.contextmanager
def laptop(machines: Machines, folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a server on the far machine, and a client on the near one whose map has begun."""
    credentials, auth_file = make_users(folder / "users")
    server = subprocess.Popen(
        [*machines.at("far"), sys.executable, "-m", "pserver", "start", "--foreground", "--allow-root",
         "--bind=10.78.0.2", f"--auth-file={auth_file}", f"--log-file={folder / 'log'}", "--slots=2", *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PSERVER_RUNTIME_DIR": str(folder)},
    )  # fmt: skip
    client: subprocess.Popen[str] | None = None
    try:
        assert server.stdout is not None and "listens" in server.stdout.readline()
        client = subprocess.Popen(
            [*machines.at("near"), sys.executable, "-c", CLIENT,
             credentials.user, credentials.password, str(folder / "resume")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert line(client) == "ready"
        yield client
    finally:
        for process in (client, server):
            if process is not None and process.poll() is None:
                process.terminate()
                process.communicate(timeout=DEADLINE)


def line(client: "subprocess.Popen[str]") -> str:
    assert client.stdout is not None
    assert select.select([client.stdout], [], [], SILENCE + 2 * DEADLINE)[0], "the client says nothing"
    return client.stdout.readline().strip()


def sleep_and_wake_elsewhere(machines: Machines, before: int, after: int) -> None:
    """Have the near machine be silent for a while, and then have another address."""
    machines.ip("near", f"addr del 10.78.0.{before}/24 dev cable")
    time.sleep(SILENCE)
    machines.ip("near", f"addr add 10.78.0.{after}/24 dev cable")


def test_nothing_is_lost_where_sessions_wait(machines: Machines, tmp_path: Path) -> None:
    with laptop(machines, tmp_path, "--orphan-timeout=10") as client:
        sleep_and_wake_elsewhere(machines, 1, 3)
        assert line(client) == "map True"
        assert "it runs jobs again, after" in line(client)
        assert line(client) == "back [1, 2] [5, 5] [[0, 1, 2], [0, 1, 2]]"
        sleep_and_wake_elsewhere(machines, 3, 4)
        assert client.stdin is not None
        client.stdin.write("go on\n")
        client.stdin.flush()
        assert line(client) == "lost ConnectionLostError"
        assert line(client) == "back [1, 2] [5, 5]"
        assert line(client) == "again [5, 6, 7, 8, 9]"


def test_where_no_session_waits_the_errors_say_so(machines: Machines, tmp_path: Path) -> None:
    with laptop(machines, tmp_path) as client:
        sleep_and_wake_elsewhere(machines, 1, 3)
        said = line(client)
        assert said.startswith("map JobLostError")
        assert "which takes a server with --orphan-timeout" in said
        assert "jobs" in line(client)
        said = line(client)
        assert said.startswith("back ConnectError")
        assert "started without --orphan-timeout" in said
        assert "net.reconnect(1, fresh=True)" in said

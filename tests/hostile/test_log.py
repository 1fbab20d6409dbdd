"""A server's log under attack: it is rotated when it has grown, and a flood becomes a few lines and a count."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import program
from tests.support.servers import run_server
from tests.support.strangers import visit
from tests.support.waiting import DEADLINE, wait_until

STRAY = 400
SIZE = 3000


def test_a_flood_of_stray_connections_is_a_few_lines_and_a_count(tmp_path: Path) -> None:
    with run_server(tmp_path / "server") as server:
        for number in range(STRAY):
            visit(server.data_port if number % 2 else server.cmd_port).close()
        server.connect().close()
        server.wait_for_log("audit session-end")
        lines = server.log.splitlines()
    ended = server.log.splitlines()
    assert len(lines) < STRAY
    assert any(" audit login " in line for line in lines)
    counts = [int(count) for count in re.findall(r" (\d+) more like this in the last \d+ s: ", server.log)]
    assert counts
    strays = [
        line for line in ended if "127.0.0.1" in line and "audit" not in line and "more like" not in line
    ]
    assert len(strays) + sum(counts) >= STRAY, ended[-5:]


def test_it_is_set_aside_when_it_has_grown(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", f"--log-size={SIZE}", "--log-files=3") as server:

        def files() -> list[str]:
            return sorted(path.name for path in server.folder.glob("log*"))

        for _ in range(20):
            if len(files()) == 3:
                break
            server.connect().close()
            for _ in range(5):
                visit(server.cmd_port).close()
        wait_until(lambda: files() == ["log", "log.1", "log.2"], "the older files")
        for name in ("log.1", "log.2"):
            assert SIZE <= (server.folder / name).stat().st_size < 2 * SIZE
        (server.folder / "log.2").write_text("the oldest")
        for _ in range(20):
            server.connect().close()
            if (server.folder / "log.2").read_text() != "the oldest":
                break
        wait_until(lambda: files() == ["log", "log.1", "log.2"], "the older files")
        assert (server.folder / "log.2").read_text() != "the oldest"


# Fails to log in over IPv4 to a server that listens on all addresses.
FAIL_TO_LOG_IN = """
import sys
from pathlib import Path
from pconnect import AuthenticationError, pconnect
from tests.support.servers import run_server
from tests.support.waiting import wait_until
with run_server(Path(sys.argv[1]), bind=None) as server:
    try:
        pconnect(f"127.0.0.1:{server.cmd_port}", user="alice", password="wrong")
    except AuthenticationError:
        print("refused")
    wait_until(lambda: " audit failed-login " in server.log, "the line of the failed login")
"""


def test_ipv4_clients_have_their_usual_address_at_a_server_for_both_kinds(tmp_path: Path) -> None:
    """This runs in a network namespace, where no other process can reach the server."""
    program("ip", "iproute2")
    spaces = ["--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    begin = [program("unshare", "util-linux"), *spaces, "sh", "-c"]
    if subprocess.run([*begin, "ip link set lo up"], check=False, timeout=DEADLINE).returncode:
        pytest.skip("the system permits no namespaces here")
    command = [*begin, 'ip link set lo up; exec "$@"', "sh", sys.executable, "-c", FAIL_TO_LOG_IN]
    done = subprocess.run(
        [*command, str(tmp_path / "server")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=2 * DEADLINE,
        check=True,
    )
    assert done.stdout == "refused\n"
    log = (tmp_path / "server" / "log").read_text()
    assert " audit failed-login from 127.0.0.1 port " in log
    assert "::ffff:" not in log

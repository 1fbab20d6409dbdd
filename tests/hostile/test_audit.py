"""A real server's log entries for logins, in which fail2ban finds the right addresses."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srp_tools.errors import AuthenticationError
from srp_tools.login import log_in
from srp_tools.steps import deadline_after, run
from tests.support.programs import program
from tests.support.servers import Server, engine_pids, run_server
from tests.support.waiting import DEADLINE, wait_until

FILTER = Path(__file__).parents[2] / "doc" / "fail2ban" / "pserver.conf"
INJECTED = 'x" reason="y"\n2026-01-01 00:00:00,000 WARNING audit failed-login from 9.9.9.9 port 1 user="'


def lines(server: Server, word: str) -> list[str]:
    return [line for line in server.log.splitlines() if f" audit {word} " in line]


def wait_for(server: Server, word: str, before: int = 0) -> str:
    """Wait for a line after the earlier ones; return it."""
    wait_until(lambda: len(lines(server, word)) > before, f"a line of {word}")
    return lines(server, word)[before]


def fields(line: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line))


def try_to_log_in(server: Server, user: str, password: str = "wrong") -> None:
    """Fail to log in, with any text as the name."""
    who: Any = SimpleNamespace(user=user, password=password)
    with socket.create_connection((str(server.status["bind"][0]), server.cmd_port), DEADLINE) as sock:
        sock.setblocking(False)
        with pytest.raises(AuthenticationError):
            run(log_in(sock, who, lambda _: b""), deadline_after(DEADLINE))


def test_a_session_leaves_a_line_at_its_login_and_at_its_end(server: Server) -> None:
    before = len(lines(server, "session-end"))
    with server.connect(2) as net:
        net.eval("a = bytes(100_000)")
        net.pull("a")
        assert list(net.map(abs, range(-10, 0))) == list(range(10, 0, -1))
        network = net.network_id
    line = wait_for(server, "session-end", before)
    logins = [line for line in lines(server, "login") if network in line]
    said = fields(line)
    assert [fields(login)["node"] for login in logins] == ["1", "2"]
    assert {fields(login)["session"] for login in logins} == {said["session"]}
    assert re.search(r" INFO audit session-end from 127\.0\.0\.1 port \d+ user=\"alice\" ", line)
    assert int(said["commands"]) >= 4
    assert said["jobs"] == "10"
    assert int(said["sent"]) >= 200_000
    assert 0 < int(said["received"]) < 200_000
    assert 0 < float(said["seconds"]) < 2 * DEADLINE
    assert said["how"] == '"the network was closed"'


@pytest.mark.slow
def test_counts_outlive_the_engine(server: Server) -> None:
    before = len(lines(server, "session-end"))
    with server.connect() as net:
        for _ in range(5):
            net.eval("a = bytes(100_000)")
            net.pull("a")
        net.eval("import time; time.sleep(0.1)")  # bytes are not counted more often
        net.pull("a")  # when this command begins, the one before has been counted
        os.kill(engine_pids(net)[1], signal.SIGKILL)
        net.restart()
        net.eval("b = 1")
        net.pull("b")
    said = fields(wait_for(server, "session-end", before))
    assert int(said["commands"]) == 14
    assert int(said["sent"]) >= 300_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whom", "how"),
    [
        ("client", '"its client is gone"'),
        ("session", '"its process has ended'),
        ("server", '"the server was stopped"'),
    ],
)
def test_it_says_how_a_session_ended(whom: str, how: str, tmp_path: Path) -> None:
    program_of_client = (
        "import sys, time\n"
        "from pconnect import pconnect\n"
        "net = pconnect([sys.argv[1]], user=sys.argv[2], password=sys.argv[3])\n"
        "end = time.monotonic() + 5.0\n"  # the session reports its counts every two seconds
        "while time.monotonic() < end:\n"
        "    net.eval('a = 1')\n"
        "    net.pull('a')\n"
        "    time.sleep(0.1)\n"
        "print('ready', flush=True)\n"
        "time.sleep(1000)\n"
    )
    with run_server(tmp_path / "server") as server:
        arguments = [server.host, server.credentials.user, server.credentials.password]
        client = subprocess.Popen(
            [sys.executable, "-c", program_of_client, *arguments], stdout=subprocess.PIPE, text=True
        )
        with client, contextlib.ExitStack() as stack:
            stack.callback(client.kill)
            assert client.stdout is not None
            assert client.stdout.readline() == "ready\n"
            session = int(fields(wait_for(server, "login"))["session"])
            if whom == "client":
                client.kill()
            elif whom == "session":
                os.kill(session, signal.SIGKILL)
            else:
                server.process.terminate()
            line = wait_for(server, "session-end")
        assert f" session={session} " in line
        assert f" how={how}" in line
        assert int(fields(line)["received"]) > 0


def test_a_failed_login_is_named_once_and_alike_for_all_users(server: Server) -> None:
    before = len(lines(server, "failed-login"))
    for user in ("alice", "nobody", "x" * 255, "name in spaces", INJECTED):
        try_to_log_in(server, user)
    wait_until(lambda: len(lines(server, "failed-login")) == before + 5, "the lines")
    for line, user in zip(
        lines(server, "failed-login")[before:], ("alice", "nobody", "xxx", "name", "x"), strict=True
    ):
        assert re.search(rf' WARNING audit failed-login from 127\.0\.0\.1 port \d+ user="{user}', line)
        assert line.endswith(' reason="unknown user or wrong password"')
    assert "\n2026-01-01" not in server.log
    assert "wrong\n" not in server.log.replace("wrong password", "")


def banned(log: Path) -> list[str]:
    """Return the addresses that fail2ban finds."""
    command = [program("fail2ban-regex", "fail2ban"), "--out", "ip", str(log), str(FILTER)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return answer.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_fail2ban_finds_the_addresses_and_no_injected_ones(address: str, tmp_path: Path) -> None:
    with run_server(tmp_path / "server", bind=address) as server:
        with server.connect() as net:
            net.eval("a = 1")
        assert banned(tmp_path / "server" / "log") == []
        for number, user in enumerate(("alice", "nobody", INJECTED)):
            try_to_log_in(server, user)
            wait_for(server, "failed-login", number)
        wait_for(server, "session-end")
    assert banned(tmp_path / "server" / "log") == [address] * 3


def test_fail2ban_knows_the_address_of_any_line(tmp_path: Path) -> None:
    """This includes an IPv6 address with a zone, and a client that is locked out."""
    log = tmp_path / "log"
    begin = "2026-11-28 00:05:18,123 WARNING audit"
    refused = 'reason="too many failed logins of this user from there"'
    log.write_text(
        f'{begin} failed-login from fe80::1%eth0 port 5 user="a" reason="unknown user or wrong password"\n'
        f'{begin} refused from 192.0.2.1 port 5 user="a b\\" c" {refused}\n'
        f'{begin} failed-login from 192.0.2.2 port 5 user="a" reason="the peer closed the connection"\n'
        f'{begin} refused from 192.0.2.3 port 5 user="a" reason="too many clients want to log in"\n'
    )
    assert banned(log) == ["fe80::1", "192.0.2.1"]


def test_fail2ban_reads_lines_of_the_journal(tmp_path: Path) -> None:
    """They begin with the machine and the unit, and end like those of a file; a user's text is in no such place."""
    log = tmp_path / "log"
    begin = "2026-11-28 00:05:18,123"
    wrong = 'port 5 user="a" reason="unknown user or wrong password"'
    log.write_text(
        f"{begin} alpha pserver[39]: WARNING audit failed-login from 192.0.2.1 {wrong}\n"
        f"{begin} alpha pserver-lab[39]: WARNING audit failed-login from 192.0.2.2 {wrong}\n"
        f"{begin} alpha other[40]: WARNING audit failed-login from 192.0.2.3 {wrong}\n"
        f"{begin} alpha pserver[39]: INFO x pserver[1]: WARNING audit failed-login from 192.0.2.4 {wrong}\n"
    )
    assert banned(log) == ["192.0.2.1", "192.0.2.2"]


def test_the_filter_takes_only_the_daemons_lines_from_the_journal() -> None:
    """A user's program in the unit may write any line, but under another user id."""
    assert "\njournalmatch = _SYSTEMD_UNIT=pserver.service _UID=0\n" in FILTER.read_text(encoding="utf-8")

"""Administration of a real server over a login."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import AuthenticationError, ConnectionLostError, ServerRefusedError
from pconnect.link.dialing import receive_packed, send_packed
from pconnect.link.host_names import parse_hosts
from pconnect.protocol.frames import Limits
from pconnect.session.login import find_credentials, make_terms, open_control
from pserver.admin.remote_control import ask_at
from pserver.ctl.elsewhere import request_over
from pserver.daemon.control.control_logins import MOST_OF_USER
from srp_tools.channel import Channel
from srp_tools.credentials import Credentials
from srp_tools.errors import ConfigurationError
from srp_tools.steps import deadline_after, run, run_all
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.servers import Server, make_users, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

pytestmark = pytest.mark.slow

BOB = Credentials("bob", "battery staple")
STAY = {"do": "statistics", "stay": True}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    users = make_users(tmp_path)
    VerifierFile(users[1]).add(make_verifier(BOB, 2048))
    monkeypatch.setenv("PCONNECT_PASSWORD", users[0].password)
    with run_server(
        tmp_path / "server", "--admins=alice", "--shared-account", "--slots=2", users=users
    ) as running:
        yield running


def test_an_administrator_asks_and_everything_is_in_the_log(server: Server) -> None:
    with server.connect() as net:
        [row] = [
            row
            for row in ask_at(server.host, "alice", {"do": "sessions"}, DEADLINE)["sessions"]
            if row["nodes"]
        ]
        assert (row["session"], row["user"]) == (server.sessions(net)[0], "alice")
    assert ask_at(server.host, "alice", {"do": "slots", "total": 3}, DEADLINE)["total"] == 3
    with pytest.raises(ConfigurationError, match="there is no command 'halt'"):
        ask_at(server.host, "alice", {"do": "halt"}, DEADLINE)
    server.wait_for_log("audit control from 127.0.0.1 port", 3)
    lines = [line for line in server.log.splitlines() if "audit control from 127.0.0.1 port" in line]
    assert len(lines) == 3 and all('user="alice"' in line for line in lines)


def test_others_are_refused_and_so_is_a_wrong_password(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AuthenticationError, match="an administrator needs a Unix account there"):
        ask_at(server.host, "bob", {"do": "status"}, DEADLINE)
    monkeypatch.setenv("PCONNECT_PASSWORD", BOB.password)
    with pytest.raises(ConfigurationError, match="'bob' is not among the administrators"):
        ask_at(server.host, "bob", {"do": "stop"}, DEADLINE)
    assert server.process.poll() is None
    server.wait_for_log('user="bob"')
    server.wait_for_log("the user is not an administrator")


def test_logins_for_administration_that_say_nothing_keep_no_others_out(server: Server) -> None:
    credentials = find_credentials("alice", None, None)
    terms = make_terms(credentials, Limits(), DEADLINE, local_links=False)
    [host] = parse_hosts(server.host)
    with contextlib.ExitStack() as stack:
        silent: dict[int, tuple[Channel, str] | Exception] = {}
        run_all({n: open_control(host, terms) for n in range(12)}, deadline_after(DEADLINE), silent)
        for each in silent.values():
            assert isinstance(each, tuple), each
            stack.callback(each[0].close)
        server.connect().close()


def test_a_user_has_few_logins_that_stay_and_keeps_no_others_out(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCONNECT_PASSWORD", BOB.password)
    terms = make_terms(find_credentials("bob", None, None), Limits(), DEADLINE, local_links=False)
    [host] = parse_hosts(server.host)

    def logins() -> list[object]:
        sessions = server.status_now()["sessions"]
        return [each["pid"] for each in sessions if each["user"] == "bob" and each["network"] is None]

    with contextlib.ExitStack() as stack:
        asked: list[Channel] = []
        for _ in range(20):
            asked.append(run(open_control(host, terms), deadline_after(DEADLINE))[0])
            stack.callback(asked[-1].close)
            told = run(request_over(asked[-1], STAY, server.host), deadline_after(DEADLINE))
            assert told["server"]["name"] == server.status["name"]
        wait_until(lambda: len(logins()) == MOST_OF_USER, "the end of the first logins")
        for channel in asked[-MOST_OF_USER:]:  # these had the latest requests, and stay
            run(request_over(channel, STAY, server.host), deadline_after(DEADLINE))
        with pytest.raises(ConnectionError):
            run(request_over(asked[0], STAY, server.host), deadline_after(DEADLINE))
        server.connect().close()


def test_a_login_that_asks_once_is_over(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCONNECT_PASSWORD", BOB.password)
    terms = make_terms(find_credentials("bob", None, None), Limits(), DEADLINE, local_links=False)
    channel, _ = run(open_control(parse_hosts(server.host)[0], terms), deadline_after(DEADLINE))
    try:
        run(request_over(channel, {"do": "statistics"}, server.host), deadline_after(DEADLINE))
        with pytest.raises(ConnectionError):  # no timeout, although the client stays
            run(receive_packed(channel), deadline_after(DEADLINE))
    finally:
        channel.close()


def test_who_is_no_administrator_is_ended_with_the_refusal(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCONNECT_PASSWORD", BOB.password)
    terms = make_terms(find_credentials("bob", None, None), Limits(), DEADLINE, local_links=False)
    channel, _ = run(open_control(parse_hosts(server.host)[0], terms), deadline_after(DEADLINE))
    try:
        run(send_packed(channel, {"do": "status"}), deadline_after(DEADLINE))
        assert b"is not among" in run(receive_packed(channel), deadline_after(DEADLINE))
        with pytest.raises(ConnectionError):  # no timeout, although the client stays
            run(receive_packed(channel), deadline_after(DEADLINE))
    finally:
        channel.close()


def test_a_drained_server_can_be_administered_and_ended(server: Server) -> None:
    command = [sys.executable, "-m", "pserver", "ctl", "--host", server.host, "--user", "alice"]

    def ctl(*words: str) -> str:
        return subprocess.run(
            [*command, *words],
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            env=dict(os.environ),
        ).stdout

    assert "accepts no new sessions" in ctl("drain")
    with pytest.raises(ServerRefusedError):
        server.connect()
    assert "The server accepts new sessions" in ctl("resume")
    server.connect().close()
    assert ctl("status").splitlines()[1].startswith(str(server.status["name"]))
    assert "The server is stopping" in ctl("quit")
    server.process.wait(DEADLINE)


def test_a_user_ends_sessions_of_his_own_and_no_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.connect() as alices, server.connect(user="bob", password=BOB.password) as bobs:
        monkeypatch.setenv("PCONNECT_PASSWORD", BOB.password)
        for what in (str(server.sessions(alices)[0]), "alice", "bob", "1"):
            with pytest.raises(ConfigurationError, match="the user 'bob' is not among the administrators"):
                ask_at(server.host, "bob", {"do": "kill", "what": what}, DEADLINE)
        own = server.sessions(bobs)[0]
        killed = ask_at(server.host, "bob", {"do": "kill", "what": str(own)}, DEADLINE)["killed"]
        assert killed == [{"session": own, "user": "bob"}]
        wait_gone(own)
        with pytest.raises(ConnectionLostError, match=r"its user \(bob\) ended this session"):
            bobs.eval("1").result()
        assert alices.eval("1").result() == [1]


def test_more_than_one_server() -> None:
    for hosts in ("alpha,beta", "alpha*2"):
        with pytest.raises(ConfigurationError, match=f"--host {re.escape(hosts)}: give exactly one server"):
            ask_at(hosts, None, {"do": "status"}, DEADLINE)

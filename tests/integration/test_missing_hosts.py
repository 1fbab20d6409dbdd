"""`pconnect` and the recovery of jobs continue without hosts that are not required."""

import dataclasses
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pconnect import ConnectError, ConnectionLostError, MissingHostsWarning, pconnect
from pconnect.detach.token import unpack_token
from pconnect.link import dialing
from pconnect.session import mesh_setup
from srp_tools.channel import Channel
from srp_tools.credentials import Credentials
from srp_tools.steps import Steps
from tests.support.networks import assert_works
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE


def closed_port() -> str:
    """Return an address on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_hosts_that_are_not_required_may_be_missing(two_servers: list[Server]) -> None:
    (first, second), dead = two_servers, closed_port()
    hosts = [dead, first.host, dead, second.host]
    with (
        pytest.warns(
            MissingHostsWarning, match=rf"without 2 of 4 .*\n  {dead}: connection refused"
        ) as warned,
        connect(two_servers, hosts=hosts, required=False) as net,
    ):
        assert [connection.host for connection in net] == ["client", first.host, second.host]
        assert list(net.missing) == [dead]
        assert isinstance(net.missing[dead], ConnectionRefusedError)
        assert_works(net)
        net[1].restart(timeout=DEADLINE)
        assert_works(net)
    assert len(warned) == 1
    with connect(two_servers, required=2) as net:
        assert net.missing == {}
    with pytest.raises(ConnectError, match=f"{dead}: connection refused"):
        connect(two_servers, hosts=hosts, required=3)
    with pytest.raises(ConnectError, match=f"{dead}: connection refused"):
        connect(two_servers, hosts=[dead], required=False)


def test_a_host_that_does_not_answer_does_not_hold_up_the_others(server: Server) -> None:
    """The server is suspended, or a firewall drops packets: the timeout passes for all hosts at the same moment."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, began = f"127.0.0.1:{silent.getsockname()[1]}", time.monotonic()
        with (
            pytest.warns(MissingHostsWarning, match=f"{host}: port .* the login timed out"),
            connect([server], hosts=[host, server.host], required=False, timeout=8.0) as net,
        ):
            assert time.monotonic() - began < 7.5
            assert_works(net)


def test_a_host_that_takes_no_data_is_missing(
    two_servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_servers
    refusing, dial = closed_port().rpartition(":")[2], dialing.dial

    def dial_elsewhere(places: Sequence[tuple[str, int]], *rest: Any, **more: Any) -> Steps[Channel]:
        its = {first.data_port, first.cmd_port}
        return dial([(a, int(refusing) if p in its else p) for a, p in places], *rest, **more)

    monkeypatch.setattr(mesh_setup, "dial", dial_elsewhere)
    with (
        pytest.warns(MissingHostsWarning, match=f"connected without 1 of 2 engines:\n  {first.host}"),
        connect(two_servers, required=False, local_links=False) as net,
    ):
        assert [connection.host for connection in net[1:]] == [second.host]
        assert_works(net)


def test_a_missing_server_keeps_its_jobs_for_the_next_recovery(
    tmp_path: Path, users: tuple[Credentials, Path]
) -> None:
    with (
        run_server(tmp_path / "first", f"--spool-dir={tmp_path / 'spool1'}", users=users) as first,
        run_server(tmp_path / "second", f"--spool-dir={tmp_path / 'spool2'}", users=users) as second,
    ):
        net = connect([first, second])
        for number in range(4):
            net[1 + number % 2].submit("lambda k: __import__('time').sleep(0.5) or k", number)
        token = net.detach()
        login: dict[str, Any] = {"user": first.credentials.user, "password": first.credentials.password}
        dead = closed_port()
        there = dataclasses.replace(
            unpack_token(token), hosts=(("127.0.0.1", int(dead[10:])), ("127.0.0.1", second.cmd_port))
        )
        with pytest.raises(ConnectError, match=f"{dead}: connection refused"):
            pconnect(recover=there.pack(), **login)
        with (
            pytest.warns(MissingHostsWarning),
            pconnect(recover=there.pack(), required=False, **login) as net,
        ):
            assert [net.jobs[number].result(DEADLINE) for number in (2, 4)] == [1, 3]
            with pytest.raises(ConnectionLostError, match=f"job 1 is kept on {dead}, which is missing"):
                net.jobs[1].result(0)
        with pconnect(recover=token, **login) as net:
            assert [net.jobs[number].result(DEADLINE) for number in (1, 3)] == [0, 2]

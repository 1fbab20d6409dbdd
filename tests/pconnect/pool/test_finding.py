"""Pools of real servers on the loopback address; tests/integration has servers with their own addresses."""

import contextlib
import itertools
import json
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    MissingHostsWarning,
    ServerRefusedError,
    pconnect,
)
from pconnect.errors import ConnectionLostError
from pconnect.link import dialing
from pconnect.link.host_names import Host
from pconnect.pool import finding
from pconnect.session import login
from pconnect.session.login import log_in_at
from pconnect.views.network_views import ClientNetwork
from srp_tools.channel import Channel
from srp_tools.credentials import Credentials, load_credentials
from srp_tools.generate import generate_srp_data
from srp_tools.private_files import member_file
from srp_tools.steps import Steps
from tests.support.pools import announce
from tests.support.servers import Server, make_users, open_files, run_server
from tests.support.waiting import DEADLINE, wait_until

Pool = dict[str, Server]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pool")


@pytest.fixture(scope="module")
def users(folder: Path) -> tuple[Credentials, Path]:
    made = make_users(folder / "users")
    generate_srp_data(member=True, folder=folder / "users", bits=2048)
    return made


@pytest.fixture(scope="module")
def pool(folder: Path, users: tuple[Credentials, Path]) -> Iterator[Pool]:
    """Start a chain: b has joined a, and c has joined b."""
    with contextlib.ExitStack() as stack:
        servers: Pool = {}
        for name, joins in (("a", ""), ("b", "a"), ("c", "b")):
            options = [f"--join={servers[joins].host}"] if joins else []
            servers[name] = stack.enter_context(
                run_server(folder / name, f"--spool-dir={folder / 'state'}", *options, users=users)
            )
        wait_until(lambda: len(servers["b"].ask("members")["members"]) == 2, "b to know both")
        wait_until(
            lambda: all(each["id"] for each in servers["b"].ask("members")["members"]), "b to hear of a"
        )
        yield servers


def connect(pool: Pool, join: object, hosts: object = None, **options: Any) -> ClientNetwork:
    credentials = pool["a"].credentials
    settings: dict[str, Any] = {
        "user": credentials.user,
        "password": credentials.password,
        "profile": "",
        "timeout": DEADLINE,
    }
    return pconnect(hosts, join=join, **settings | options)


def names(pool: Pool, net: ClientNetwork) -> str:
    hosts = {server.host: name for name, server in pool.items()}
    return "".join(hosts[node.host] for node in net[1:])


def logins(pool: Pool) -> dict[str, int]:
    return {name: server.log.count("audit login from 127.0.0.1") for name, server in pool.items()}


def test_any_server_leads_to_all_with_one_login_each(pool: Pool) -> None:
    before = logins(pool)
    found = []
    for server in pool.values():
        with connect(pool, server.host) as net:
            found.append(names(pool, net))
            assert net.eval("sockets.node").result() == [1, 2, 3] and net.missing == {}
    assert found == ["abc", "bac", "cba"]
    wait_until(
        lambda: logins(pool) == {name: count + 3 for name, count in before.items()}, "all logins in the logs"
    )


def test_servers_named_by_the_user_come_first_with_repetitions(pool: Pool) -> None:
    a, b, c = (pool[name].host for name in "abc")
    with connect(pool, True, [c, f"{a}*2", c]) as net:
        assert names(pool, net) == "caacb"
    with connect(pool, [b], [c]) as net:
        assert names(pool, net) == "cba"
    with connect(pool, False, [c]) as net:
        assert names(pool, net) == "c"


def test_a_server_with_two_names_is_one_node(pool: Pool) -> None:
    with connect(pool, [pool["a"].host, f"localhost:{pool['a'].cmd_port}"]) as net:
        assert names(pool, net) == "abc"


def test_unreachable_servers_are_reported(pool: Pool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
    with pytest.warns(MissingHostsWarning, match="connected without 1 of 4 engines"):
        net = connect(pool, [dead, pool["b"].host])
    with net:
        assert names(pool, net) == "bac" and list(net.missing) == [dead]
    with pytest.raises(ConnectError, match="no server is listening"):
        connect(pool, dead)
    with pytest.raises(ConnectError, match="required=4: the pool has 3"):
        connect(pool, pool["a"].host, required=4)
    with connect(pool, pool["a"].host, required=3) as net:
        assert len(net) == 4


def test_a_server_that_refuses_leaves_no_gap_in_the_numbers(pool: Pool) -> None:
    pool["b"].ask("drain")
    try:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            with connect(pool, [pool["a"].host, pool["b"].host, pool["c"].host]) as net:
                assert names(pool, net) == "ac" and "drained" in str(net.missing[pool["b"].host])
        with pytest.raises(ServerRefusedError, match="drained"):
            connect(pool, pool["b"].host)
    finally:
        pool["b"].ask("resume")


def test_a_refused_login_finds_no_servers(pool: Pool, users: tuple[Credentials, Path]) -> None:
    with pytest.raises(AuthenticationError):
        connect(pool, pool["a"].host, password="a wrong password")
    member = load_credentials(member_file(users[1].parent.parent))
    with pytest.raises(ServerRefusedError, match="is a member"):
        pconnect(pool["a"].host, user=member.user, password=member.password, profile="")
    with pytest.raises(ConfigurationError, match="use_tls"):
        connect(pool, pool["a"].host, use_tls=False)


def test_a_silent_server_costs_one_time_limit(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_FOUND_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        announce(pool["a"], id="77" * 16, cmd_port=port)
        with pytest.warns(MissingHostsWarning, match="the login timed out"):
            net = connect(pool, pool["a"].host)
    announce(pool["a"], do="leave", id="77" * 16)
    with net:
        assert names(pool, net) == "abc" and list(net.missing) == [f"127.0.0.1:{port}"]


def test_many_silent_servers_do_not_exclude_working_ones(
    pool: Pool, users: tuple[Credentials, Path], tmp_path: Path
) -> None:
    known = {each["name"]: each["id"] for each in pool["b"].ask("members")["members"]}
    with socket.create_server(("127.0.0.1", 0), backlog=200) as deaf:
        place = f"127.0.0.1:{deaf.getsockname()[1]}"
        listed = [
            {"id": f"{number:032x}", "name": "false", "addresses": [place], "slots": 2, "source": f"10.9.0.{number}",
             "interval": 3600, "gone": False, "user": "member+pool", "secret": ""} for number in range(1, 101)
        ]  # fmt: skip
        listed[0]["id"] = known[
            pool["c"].status["name"]
        ]  # a false entry before the true one, with the same id
        kept = tmp_path / "state" / "listing" / "pool" / "members.json"
        kept.parent.mkdir(parents=True, mode=0o700)
        kept.write_text(json.dumps({"members": listed, "joined": []}))
        kept.chmod(0o600)
        options = [f"--spool-dir={tmp_path / 'state'}", "--name=listing"]
        with run_server(tmp_path / "listing", *options, users=users) as server:
            for name in "ac":
                announce(server, id=known[pool[name].status["name"]], cmd_port=pool[name].cmd_port)
            assert len(server.ask("members")["members"]) == 102
            with pytest.warns(MissingHostsWarning, match="named by 127.0.0.1"):
                net = connect(pool, server.host, timeout=12.0)
            with net:
                assert names({"listing": server, **pool}, net).startswith("listing")
                assert {node.host for node in net[2:]} == {pool[name].host for name in "abc"}
                assert list(net.missing) == [place]


def test_a_server_lost_after_numbering_leaves_no_gap(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    hellos = itertools.count(1)

    def expect_hello(channel: Channel) -> Steps[None]:
        if next(hellos) == 2:  # from b, which a has named
            channel.close()
            raise ConnectionLostError("it has died")
        yield from dialing.expect_hello(channel)

    monkeypatch.setattr(login, "expect_hello", expect_hello)
    with pytest.warns(MissingHostsWarning, match="it has died"):
        net = connect(pool, pool["a"].host)
    with net:
        assert names(pool, net) == "a" and list(net.missing) == [pool["b"].host]
        assert net.eval("sockets.node").result() == [1]


def test_nothing_stays_open_after_an_interrupt(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(host: Host, *rest: Any) -> Steps[Any]:
        if host.port == pool["c"].cmd_port:
            raise KeyboardInterrupt
        return (yield from log_in_at(host, *rest))

    monkeypatch.setattr(finding, "log_in_at", interrupted)
    before = open_files()
    with pytest.raises(KeyboardInterrupt):
        connect(pool, pool["a"].host)
    assert open_files() == before


def test_false_announcements_change_nothing(pool: Pool) -> None:
    """Members may announce any address, but nothing there can prove to be a server."""
    [b] = [each for each in pool["a"].ask("members")["members"] if each["name"] == pool["b"].status["name"]]
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
    announce(pool["a"], id="77" * 16, name="false", cmd_port=port)
    announce(pool["a"], id="78" * 16, name="c", cmd_port=pool["b"].cmd_port)
    with pytest.warns(MissingHostsWarning):
        net = connect(pool, pool["a"].host)
    with net:
        assert names(pool, net) == "abc" and f"127.0.0.1:{port}" in net.missing
    assert "can only announce itself" in announce(pool["a"], do="members")["error"]
    for id_ in ("77", "78"):
        announce(pool["a"], do="leave", id=id_ * 16)
    assert b in [each | {"heard": b["heard"]} for each in pool["a"].ask("members")["members"]]

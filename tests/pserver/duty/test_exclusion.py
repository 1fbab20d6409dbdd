"""Which sessions may use a server exclusively, also with real servers."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import ConfigurationError, ConnectError, ServerRefusedError
from pserver.duty.exclusion import why_excluded, why_not_alone
from srp_tools.credentials import Credentials
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.servers import Server, run_server
from tests.support.waiting import wait_until


@dataclass
class Session:
    """One session."""

    pid: int = 7
    user: str | None = "alice"
    network: str | None = "aa"
    since: float = 0.0
    is_exclusive: bool = False
    is_control: bool = False
    is_detached: bool = False


ALONE = Session(is_exclusive=True)


def test_nobody_else_gets_in_where_one_is_alone() -> None:
    assert why_excluded("bob", "", [ALONE]).startswith("alice (session 7 since 19")
    assert why_excluded("bob", "bb", [ALONE]) and why_excluded("alice", "bb", [ALONE])
    assert why_excluded("alice", "", [ALONE]) == ""  # it may be for the same network, which is not known yet
    assert why_excluded("alice", "aa", [ALONE]) == ""
    assert why_excluded("bob", "aa", [ALONE])  # anyone may send the number of a network
    for other in (
        Session(),
        Session(is_exclusive=True, is_detached=True),
        Session(is_exclusive=True, user=None),
    ):
        assert why_excluded("bob", "bb", [other]) == ""


def test_one_gets_it_alone_where_nobody_else_is() -> None:
    nobody = [Session(), Session(user=None), Session(is_control=True)]
    assert why_not_alone("alice", "aa", nobody, is_allowed=True) == ""
    assert "--allow-exclusive" in why_not_alone("alice", "aa", [], is_allowed=False)
    assert why_not_alone("alice", "aa", [Session(user="bob")], is_allowed=True)
    others = [Session(pid=number, user="bob", network=f"{number}") for number in range(1, 9)]
    why = why_not_alone("alice", "aa", others, is_allowed=True)
    assert "bob (session 1 since" in why and why.endswith("and 3 more")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Credentials]]:
    """Yield a server that allows exclusive use, and a second user of it."""
    folder = tmp_path_factory.mktemp("shared")
    alice, bob = Credentials("alice", "a long password 1"), Credentials("bob", "a long password 2")
    path = folder / "verifiers"
    for each in (alice, bob):
        VerifierFile(path).add(make_verifier(each, 2048))
    with run_server(folder / "server", "--allow-exclusive", users=(alice, path)) as running:
        yield running, bob


def test_a_server_for_one_network_alone(shared: tuple[Server, Credentials]) -> None:
    server, bob = shared
    as_bob: dict[str, Any] = {"user": bob.user, "password": bob.password}
    with server.connect(2, exclusive=True) as net:
        [row] = server.ask("statistics", brief=True)["sessions"]
        assert row["exclusive"]
        for options in (as_bob, {}, {"exclusive": True}):
            with pytest.raises(ServerRefusedError, match=r"alice \(session \d+ since .* uses it exclusively"):
                server.connect(**options)
        assert net.eval("1").result() == [1, 1]
    wait_until(lambda: not server.ask("statistics", brief=True)["sessions"], "the end of the session")
    with (
        server.connect(**as_bob) as net,
        pytest.raises(
            ServerRefusedError, match=r"alice cannot use it exclusively: it has other sessions: bob \(session"
        ),
    ):
        server.connect(exclusive=True)


def test_it_ends_with_the_session_that_has_it(shared: tuple[Server, Credentials]) -> None:
    server, bob = shared
    wait_until(lambda: not server.ask("statistics", brief=True)["sessions"], "the end of the session before")
    with server.connect(exclusive=True) as net:
        [session] = server.sessions(net)
        os.kill(session, signal.SIGKILL)
        wait_until(lambda: not server.ask("statistics", brief=True)["sessions"], "the end of the session")
        with server.connect(user=bob.user, password=bob.password):
            pass


@pytest.mark.slow
def test_a_server_that_was_killed_still_knows_who_has_it(
    tmp_path: Path, users: tuple[Credentials, Path]
) -> None:
    options = ("--allow-exclusive", "--name=kept", "--slots=1")
    with run_server(tmp_path / "s", *options, users=users) as first, first.connect(exclusive=True) as net:
        first.process.kill()
        with run_server(tmp_path / "s", *options, users=users) as second:
            wait_until(lambda: bool(second.sessions(net)), "the return of the session")
            with pytest.raises(ServerRefusedError, match="uses it exclusively"):
                second.connect()


def test_without_leave_of_the_administrator_nobody_has_it_alone(server: Server) -> None:
    with pytest.raises(ServerRefusedError, match="has not set --allow-exclusive"):
        server.connect(exclusive=True)
    with pytest.raises(ConfigurationError, match="exclusive and use_tls=False"):
        server.connect(exclusive=True, use_tls=False)
    assert issubclass(ServerRefusedError, ConnectError | ConnectionError)

"""A server that takes no new session says why, inside of the login."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import ConnectError, MissingHostsWarning, ServerRefusedError
from srp_tools.credentials import Credentials
from tests.support.networks import assert_works
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import wait_until


@pytest.fixture(params=[True, False], ids=["TLS", "plain"])
def full(request: Any, tmp_path: Path, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Give a server for one session at a time."""
    with run_server(tmp_path, "--max-sessions=1", users=users, use_tls=request.param) as running:
        yield running


def why(server: Server) -> str:
    name = server.status["name"]
    return f"server {name} takes no new session now: there are 1, and its administrator allows 1 (--max-sessions)"


def test_the_client_reads_why_and_is_let_in_later(full: Server) -> None:
    with full.connect(2) as net:  # further nodes are of the same session
        with pytest.raises(ServerRefusedError) as caught:
            full.connect(2)
        assert str(caught.value) == f"could not connect to {full.host}: {why(full)}"
        assert_works(net)
    wait_until(lambda: not full.status_now()["sessions"], "the end of the session")
    with full.connect() as net:
        assert_works(net)


def test_a_refusal_is_audited_and_is_no_failed_login(full: Server) -> None:
    with full.connect():
        for _ in range(6):  # failures of so many passwords would have to wait
            with pytest.raises(ServerRefusedError):
                full.connect()
    lines = [line for line in full.log.splitlines() if "audit " in line and " login " not in line]
    refused = [line for line in lines if "audit refused from" in line and why(full) in line]
    assert len(refused) == 6
    assert all('user="alice"' in line for line in refused) or not full.use_tls
    assert not any("audit failed-login" in line for line in lines)


def test_each_host_is_named_with_its_reason_and_may_be_missing(
    full: Server, tmp_path: Path, users: tuple[Credentials, Path]
) -> None:
    folder = tmp_path / "other"
    with run_server(folder, users=users, use_tls=full.use_tls) as other, full.connect():
        hosts = [other.host, full.host]
        with pytest.raises(ServerRefusedError, match=r"--max-sessions"):
            connect([full], hosts=hosts)
        with pytest.raises(ConnectError) as caught:
            connect([full], hosts=[full.host, "127.0.0.1:1"])
        assert isinstance(caught.value.reasons[full.host], ServerRefusedError)
        assert set(caught.value.reasons) == {full.host, "127.0.0.1:1"}
        with (
            pytest.warns(MissingHostsWarning, match="--max-sessions"),
            connect([full], hosts=hosts, required=False) as net,
        ):
            assert_works(net)
            assert list(net.missing) == [full.host]

"""Servers that many tests share, and networks of their nodes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from srp_tools.credentials import Credentials
from tests.support.servers import Server, run_server


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server without encryption and login."""
    with run_server(tmp_path_factory.mktemp("plain"), use_tls=False) as running:
        yield running


@pytest.fixture(params=["unix", "TLS", "plain"])
def any_server(request: pytest.FixtureRequest, server: Server, plain_server: Server) -> Server:
    """Yield a server whose networks have links of one kind."""
    if request.param == "plain":
        return plain_server
    return replace(server, local_links=request.param == "unix")


@pytest.fixture(scope="session")
def two_servers(
    server: Server, tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[list[Server]]:
    """Yield two servers with the same users, for tests that end engines and supervisors, but not the servers."""
    with run_server(tmp_path_factory.mktemp("second"), users=users) as second:
        yield [server, second]


@pytest.fixture
def own_servers(tmp_path: Path, users: tuple[Credentials, Path]) -> Iterator[list[Server]]:
    """Yield two servers with the same users, for tests that end them."""
    with (
        run_server(tmp_path / "first", users=users) as first,
        run_server(tmp_path / "second", users=users) as second,
    ):
        yield [first, second]

"""Servers that many tests share, and networks of their nodes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pconnect import Network
from srp_tools.credentials import Credentials
from tests.integration.servers import Server, make_users, run_server


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> tuple[Credentials, Path]:
    return make_users(tmp_path_factory.mktemp("users"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Give a server for tests that do it no harm."""
    with run_server(tmp_path_factory.mktemp("server"), users=users) as running:
        yield running


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server without encryption and login."""
    with run_server(tmp_path_factory.mktemp("plain"), use_tls=False) as running:
        yield running


@pytest.fixture(scope="session")
def two_servers(
    server: Server, tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[list[Server]]:
    """Give two servers with the same users, for tests that end engines and supervisors, but not the servers."""
    with run_server(tmp_path_factory.mktemp("second"), users=users) as second:
        yield [server, second]


@pytest.fixture
def own_servers(tmp_path: Path, users: tuple[Credentials, Path]) -> Iterator[list[Server]]:
    """Give two servers with the same users, for tests that end them."""
    with (
        run_server(tmp_path / "first", users=users) as first,
        run_server(tmp_path / "second", users=users) as second,
    ):
        yield [first, second]


@pytest.fixture
def network(server: Server) -> Iterator[Callable[..., Network]]:
    """Give a function that connects n nodes of the shared server until the end of the test."""
    with ExitStack() as stack:

        def make(n: int = 1, **options: Any) -> Network:
            return stack.enter_context(server.connect(n, **options))

        yield make

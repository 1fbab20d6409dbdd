"""A server whose sessions wait, and clients that vanish."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.servers import Server, run_server


@pytest.fixture(scope="session")
def waiting_server(
    tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[Server]:
    """Start a server whose sessions wait for their clients."""
    with run_server(tmp_path_factory.mktemp("waiting"), "--orphan-timeout=5", users=users) as running:
        yield running


@pytest.fixture
def vanish() -> Callable[[ClientNetwork], None]:
    """Return a function that closes the connections of a network, as the end of its process does."""
    return lambda net: net.mesh.event_loop.close()

"""Fixtures shared by several tests of `pconnect`."""

from collections.abc import Iterator

import pytest

from pconnect.views.network_views import ClientNetwork
from tests.support.links import Client, client_of
from tests.support.servers import Server


@pytest.fixture
def client() -> Iterator[Client]:
    """A client's network of two servers, whose far ends are scripted by the test."""
    with client_of(2) as made:
        yield made


@pytest.fixture(scope="module")
def network(server: Server) -> Iterator[ClientNetwork]:
    """A network of two real engines."""
    with server.connect(2) as net:
        yield net


@pytest.fixture(scope="module")
def jobs_network(two_slots: Server) -> Iterator[ClientNetwork]:
    """A network of two engines with one worker each, once both have run jobs."""
    with two_slots.connect(2) as net:
        yield net

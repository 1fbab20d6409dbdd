"""What holds for all tests: how many examples there are of random values, and a server that many tests share."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from pconnect import Network
from srp_tools.credentials import Credentials
from tests.support.servers import Server, make_users, run_server

# Whoever runs the tests may have hosts and a password of their own, and it may be make that does.
for variable in [name for name in os.environ if name.startswith(("PCONNECT_", "MAKE", "MFLAGS"))]:
    del os.environ[variable]

# A busy machine makes no test wrong, so there are no deadlines. `make test` uses the profile "quick".
settings.register_profile("thorough", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile("thorough")


def pytest_collection_finish() -> None:
    """Have the collector of garbage leave alone what thousands of tests are made of; some tests call it often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> tuple[Credentials, Path]:
    return make_users(tmp_path_factory.mktemp("users"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Give a server for tests that do it no harm."""
    with run_server(tmp_path_factory.mktemp("server"), users=users) as running:
        yield running


@pytest.fixture(scope="session")
def one_slot(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Give a server that runs one job at a time."""
    with run_server(tmp_path_factory.mktemp("one-slot"), "--slots=1", users=users) as running:
        yield running


@pytest.fixture(scope="session")
def two_slots(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Give a server that runs two jobs at a time, however many processors there are."""
    with run_server(tmp_path_factory.mktemp("two-slots"), "--slots=2", users=users) as running:
        yield running


@pytest.fixture
def network(server: Server) -> Iterator[Callable[..., Network]]:
    """Give a function that connects n nodes of the shared server until the end of the test."""
    with ExitStack() as stack:

        def make(n: int = 1, **options: Any) -> Network:
            return stack.enter_context(server.connect(n, **options))

        yield make

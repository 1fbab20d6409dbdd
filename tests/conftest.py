"""Settings for all tests: the number of random examples, and a server that many tests share."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from pconnect import Network
from srp_tools.credentials import Credentials
from tests.support.servers import Server, make_users, run_server

# The environment may have a user's own hosts and password, and variables of make.
for variable in [name for name in os.environ if name.startswith(("PCONNECT_", "MAKE", "MFLAGS"))]:
    del os.environ[variable]

# A script that runs the tests in the background has the shell ignore these signals, also in all child processes.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# No deadlines: a busy machine must not make a test fail. `make test` uses the profile "quick".
settings.register_profile("thorough", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile("thorough")


def pytest_collection_finish() -> None:
    """Exclude the thousands of test objects from garbage collection, because some tests collect often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> tuple[Credentials, Path]:
    return make_users(tmp_path_factory.mktemp("users"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Yield a server for tests that do it no harm."""
    with run_server(tmp_path_factory.mktemp("server"), users=users) as running:
        yield running


@pytest.fixture(scope="session")
def one_slot(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Yield a server that runs one job at a time."""
    with run_server(tmp_path_factory.mktemp("one-slot"), "--slots=1", users=users) as running:
        yield running


@pytest.fixture(scope="session")
def two_slots(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Yield a server that runs two jobs at a time, whatever the number of processors."""
    with run_server(tmp_path_factory.mktemp("two-slots"), "--slots=2", users=users) as running:
        yield running


@pytest.fixture
def network(server: Server) -> Iterator[Callable[..., Network]]:
    """Yield a function that connects `n` nodes of the shared server until the end of the test."""
    with ExitStack() as stack:

        def make(n: int = 1, **options: Any) -> Network:
            return stack.enter_context(server.connect(n, **options))

        yield make

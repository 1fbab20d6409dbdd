"""A plugin: docstring examples share one server, while a user's `local_network` starts a new one each time."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

import pconnect
from tests.support.servers import Server, make_users, run_server


@pytest.hookimpl(tryfirst=True)  # before tests are selected by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.DoctestItem) and (_has_own_server(item) or "dask" in item.name):
            item.add_marker(pytest.mark.slow)


def _has_own_server(item: pytest.DoctestItem) -> bool:
    return "local_network" in item.name


@pytest.fixture(scope="session")
def server_of_examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("examples")
    with run_server(folder, "--no-tcp", users=make_users(folder)) as server:
        yield server


@pytest.fixture(autouse=True)
def _share_a_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(request.node, pytest.DoctestItem) and not _has_own_server(request.node):
        server: Server = request.getfixturevalue("server_of_examples")

        def local_network(n: int = 2, **options: Any) -> contextlib.AbstractContextManager[pconnect.Network]:
            return server.connect(n, **options)

        monkeypatch.setattr(pconnect, "local_network", local_network)

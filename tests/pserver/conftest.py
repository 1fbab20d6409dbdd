"""A user and private folders, for tests that start servers as users do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.system.pidfile import list_servers, stop_server
from tests.support.places import add_user, use_private_places


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use_private_places(tmp_path, monkeypatch)
    add_user()
    yield
    for server in list_servers():
        stop_server(server.name)

"""A server that the tests may stop, and the environment of one of its users."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from srp_tools.credentials import Credentials
from tests.support.servers import Server, run_server


@pytest.fixture(scope="package")
def asked(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Run a server that the tests may stop."""
    with run_server(tmp_path_factory.mktemp("asked"), "--slots=1", users=users) as running:
        yield running


@pytest.fixture
def environment(asked: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the server's run-time folder and a user's password, without a configuration."""
    password = tmp_path / "password"
    password.write_text(f"{asked.credentials.user}:{asked.credentials.password}\n")
    password.chmod(0o600)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(asked.folder))
    monkeypatch.setenv("PSERVER_RUNTIME_DIR", str(asked.folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PCONNECT_CREDENTIALS", str(password))

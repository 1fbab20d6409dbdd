"""Fixtures for the tests of logins and verifier files."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from srp_tools.verifier_file import VerifierFile
from tests.support.verifiers import verifier_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server" / "tpasswd"


@pytest.fixture
def file(path: Path) -> VerifierFile:
    """Return a verifier file with two users."""
    file = VerifierFile(path)
    file.add(verifier_of("alice"))
    file.add(verifier_of("bob"))
    return file


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a non-blocking connection."""
    client, server = socket.socketpair()
    with client, server:
        client.setblocking(False)
        server.setblocking(False)
        yield client, server

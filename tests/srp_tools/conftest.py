"""What tests of logins and of the file of verifiers share."""

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
    """Return a file with two users."""
    file = VerifierFile(path)
    file.add(verifier_of("alice"))
    file.add(verifier_of("bob"))
    return file


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of a connection, which do not block."""
    client, server = socket.socketpair()
    with client, server:
        client.setblocking(False)
        server.setblocking(False)
        yield client, server

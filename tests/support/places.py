"""Private places for all files that a test's servers read and write."""

import socket
from pathlib import Path

import pytest

from pserver.config.server_config import ServerConfig
from srp_tools.credentials import Credentials
from srp_tools.private_files import server_file
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile

# Any free ports, and nothing that other machines could connect to.
OPTIONS = ("--bind=127.0.0.1", "--cmd-port=0", "--data-port=0", "--allow-root")


def use_private_places(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this process and its children away from the real user's files."""
    for variable, name in (
        ("XDG_RUNTIME_DIR", "run"),
        ("PSERVER_RUNTIME_DIR", "run"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_STATE_HOME", "state"),
    ):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
        monkeypatch.setenv(variable, str(folder / name))


def add_user() -> None:
    VerifierFile(server_file()).add(make_verifier(Credentials("alice", "correct horse"), 2048))


def config(name: str = "default", cmd_port: int = 0, data_port: int = 0) -> ServerConfig:
    return ServerConfig(name=name, cmd_port=cmd_port, data_port=data_port, bind="127.0.0.1", allow_root=True)


def listens(port: object) -> bool:
    assert isinstance(port, int)
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def as_number(value: object) -> int:
    assert isinstance(value, int)
    return value

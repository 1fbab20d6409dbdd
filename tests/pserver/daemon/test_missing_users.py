"""The message of a server without users, in typical situations."""

import getpass
import socket
from pathlib import Path

import pytest

from pserver.daemon.missing_users import no_users
from srp_tools import generate_srp_data
from srp_tools.private_files import server_file
from tests.support.places import use_private_places

PLACE = f"{getpass.getuser()}@{socket.gethostname()}"
COPY = f"ssh {PLACE} mkdir -p .config/pserver; scp -rp ~/.config/pserver/server {PLACE}:.config/pserver/"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_private_places(tmp_path, monkeypatch)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)


def test_on_a_first_machine_a_user_is_to_be_made() -> None:
    told = no_users(server_file())
    assert told.startswith(
        f"there is no file {server_file()} with the users of this server. If you have no users "
    )
    assert told.index("create the first user here: generate-srp-data.") < told.index(COPY)


def test_on_a_machine_that_was_reached_by_ssh_they_are_to_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.5 50000 192.0.2.1 22")
    told = no_users(server_file())
    assert (
        "You came from 192.0.2.5: copy the users from the machine on which you ran generate-srp-data; run this "
        in told
    )
    assert told.index(COPY) < told.index("create the first user here: generate-srp-data")


def test_where_only_the_client_s_part_is_it_says_what_a_new_one_would_cost() -> None:
    generate_srp_data("alice", bits=2048)
    server_file().unlink()
    told = no_users(server_file())
    assert COPY in told
    assert "that replaces the client's file" in told


def test_a_file_elsewhere_is_copied_there(tmp_path: Path) -> None:
    path = tmp_path / "a b" / "tpasswd"
    path.parent.mkdir()
    path.touch()
    told = no_users(path)
    assert told.startswith(f"{path} has no users. ")
    assert f"scp -p ~/.config/pserver/server/tpasswd* {PLACE}:'{path.parent}'/" in told
    assert f"generate-srp-data --folder DIR, then --auth-file {path}" in told

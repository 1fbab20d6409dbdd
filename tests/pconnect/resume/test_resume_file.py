"""The file that a client needs to resume its sessions."""

import json
from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import ConfigurationError
from pconnect.link.host_names import Host
from pconnect.protocol.frames import Limits
from pconnect.resume.resume_file import ResumeFile, path_of, read_file, remove_file
from pconnect.session.login import make_terms
from srp_tools import CredentialError, Credentials
from srp_tools.certificates import NodeKey

HOSTS = [Host("alpha", "alpha", 12502), Host("[::1]:7", "::1", 7)]
SAVED = ResumeFile(
    bytes(16), bytes(32), bytes(32), Limits(5, 6), 30.0, tuple(HOSTS), {1: b"key of 1", 2: b"key of 2"}
)


def test_a_written_file_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    assert read_file(path) is None
    SAVED.write(path)
    assert read_file(path) == SAVED
    assert path.stat().st_mode & 0o777 == 0o600
    remove_file(path, bytes(range(16)))  # it belongs to another network
    assert path.exists()
    remove_file(path, SAVED.network_id)
    remove_file(path, SAVED.network_id)
    assert read_file(path) is None


def test_the_file_has_all_but_the_authoritys_key(tmp_path: Path) -> None:
    terms = make_terms(Credentials("alice", "the password"), Limits(5, 6), 30.0, local_links=False)
    assert terms.authority is not None
    for node in (1, 2):
        terms.authority.sign(NodeKey().public_bytes(), node)
    saved = ResumeFile.of(terms, dict(enumerate(HOSTS, 1)), 2)
    assert (saved.network_id, saved.network_key, saved.link_key) == (
        terms.network_id,
        terms.network_key,
        None,
    )
    assert saved.keys == {node: terms.authority.public_keys[node] for node in (1, 2)}
    saved.write(tmp_path / "file")
    assert read_file(tmp_path / "file") == saved
    assert "the password" not in (tmp_path / "file").read_text()
    assert repr(saved.network_key) not in repr(saved)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    SAVED.write(tmp_path / "file")
    (tmp_path / "file").chmod(0o644)
    with pytest.raises(CredentialError, match="chmod"):
        read_file(tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 2), ("network", "00"), ("network_key", "x"), ("link_key", "00"), ("limits", [1]),
        ("limits", None), ("hosts", []), ("hosts", [["a", "a"]]), ("keys", {"1": "AAAA"}), ("keys", {"1": "?"}),
        ("peer_timeout", None), ("peer_timeout", "nan"), ("peer_timeout", 0), ("limits", [0, 7]),
    ],
)  # fmt: skip
def test_a_malformed_file_is_named(name: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    SAVED.write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(
        ConfigurationError,
        match=f"resume: {path} was not written by .*: give another name, or remove the file$",
    ):
        read_file(path)
    path.write_text("{")
    with pytest.raises(ConfigurationError, match=f"resume: {path} was not written by"):
        read_file(path)


def test_a_name_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert path_of("work.1") == tmp_path / "pconnect" / "resume" / "work.1"
    assert path_of("./file") == Path("file")
    assert path_of(Path("file")) == Path("file")
    for wrong in ("", ".hidden", "a b", "x" * 200):
        with pytest.raises(ConfigurationError, match="give a name of letters"):
            path_of(wrong)

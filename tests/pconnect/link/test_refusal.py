"""The causes of a refused login that a client can find."""

from pathlib import Path

import pytest

from pconnect.link.refusal import why_refused
from srp_tools import Credentials, VerifierFile, make_verifier
from srp_tools.private_files import server_file

ALICE = Credentials("alice", "correct horse battery staple")
WRONG = Credentials("alice", "wrong horse battery staple")
UNKNOWN = (
    "the user name or the password is wrong, or the server's users' file is outdated: run generate-srp-data"
)


@pytest.fixture
def salt(tmp_path: Path) -> bytes:
    """Create a copy of the server's file, and return the user's salt in it."""
    verifier = make_verifier(ALICE, 2048)
    VerifierFile(server_file(tmp_path)).add(verifier)
    return verifier.salt


def test_the_same_salt_is_a_wrong_password(tmp_path: Path, salt: bytes) -> None:
    told = why_refused(WRONG, salt, tmp_path)
    assert told.startswith(
        f"the server has the same verifier of alice as {server_file(tmp_path)}, so the password"
    )
    assert "generate-srp-data --verify alice" in told
    assert "horse" not in told


@pytest.mark.usefixtures("salt")
def test_another_salt_is_another_file(tmp_path: Path) -> None:
    for credentials in (ALICE, WRONG):
        told = why_refused(credentials, b"another salt", tmp_path)
        assert told.startswith(
            f"the server has no verifier of alice, or another one than {server_file(tmp_path)}"
        )
        assert (
            f"run pserver deploy if that started the server, otherwise scp -rp {tmp_path}/server HOST:"
            in told
        )


def test_without_a_copy_both_are_possible(tmp_path: Path, salt: bytes) -> None:
    assert why_refused(ALICE, salt, tmp_path / "nowhere").startswith(UNKNOWN)
    assert why_refused(Credentials("bob", "x"), salt, tmp_path).startswith(UNKNOWN)
    server_file(tmp_path).chmod(0o644)  # must not be used
    assert why_refused(WRONG, salt, tmp_path).startswith(UNKNOWN)


def test_the_fingerprint_is_that_of_the_server_s_file(tmp_path: Path, salt: bytes) -> None:
    told = why_refused(ALICE, salt, tmp_path / "nowhere")
    assert f"if it does not show {VerifierFile(server_file(tmp_path)).fingerprint()} for alice" in told
    assert why_refused(ALICE, b"another salt", tmp_path / "nowhere") != told


def test_what_cannot_be_is_not_explained(tmp_path: Path, salt: bytes) -> None:
    assert why_refused(ALICE, salt, tmp_path).startswith(UNKNOWN)

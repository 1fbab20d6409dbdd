"""Fingerprints of users: equal on machines with the same users, and useless for guessing passwords."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from srp_tools import VerifierFile, generate_srp_data
from srp_tools.cli import main


@pytest.fixture
def file(tmp_path: Path) -> VerifierFile:
    """Return a verifier file with one user, alice."""
    return VerifierFile(generate_srp_data("alice", bits=2048, folder=tmp_path).server)


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], tuple[list[str], str]]:
    """Return a function that runs the command and returns its output lines and its errors."""

    def run() -> tuple[list[str], str]:
        assert main(["--folder", str(tmp_path), "--fingerprint"]) == 0
        out, err = capsys.readouterr()
        return out.splitlines(), err

    return run


Printed = Callable[[], tuple[list[str], str]]


def test_it_is_the_same_where_the_same_users_can_log_in(
    file: VerifierFile, printed: Printed, tmp_path: Path
) -> None:
    generate_srp_data("bob", bits=2048, folder=tmp_path)
    whole, alice, bob = printed()[0]
    assert whole == f"{file.fingerprint()}  {file.path}"
    assert re.fullmatch(r"[0-9a-f]{16}  alice\n[0-9a-f]{16}  bob", f"{alice}\n{bob}")
    lines = file.path.read_text().splitlines()
    file.path.write_text(f"# from another machine\n\n{lines[1]}\r\n{lines[0]}\n")
    assert printed()[0] == [whole, bob, alice]
    generate_srp_data("bob", bits=2048, folder=tmp_path)
    now = printed()[0]
    assert [line in now for line in (whole, alice, bob)] == [False, True, False]


def test_verifiers_are_not_in_it(file: VerifierFile, printed: Printed) -> None:
    before = printed()
    user, verifier, rest = file.path.read_text().split(":", 2)
    file.path.write_text(f"{user}:{verifier[:-1]}{'1' if verifier[-1] != '1' else '2'}:{rest}")
    assert printed() == before


def test_users_who_cannot_log_in_are_left_out(file: VerifierFile, printed: Printed) -> None:
    before = printed()[0]
    with file.path.open("a") as lines:
        lines.write("bob\ncarol:11:11:99\ndave:11:11:3\ndave:11:11:3\n")
    out, errors = printed()
    assert out == before
    assert errors.count("warning") == 3


def test_no_option_goes_with_it() -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--fingerprint", "--bits", "2048"])

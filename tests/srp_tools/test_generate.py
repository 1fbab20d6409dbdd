"""The function that creates a user. `test_cli` tests the command that calls it."""

import getpass
import stat
from pathlib import Path

import pytest

from srp_tools import check_password, generate_srp_data, load_credentials
from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.verifier_file import VerifierFile


def test_both_parts_belong_together_and_are_private(tmp_path: Path) -> None:
    made = generate_srp_data("alice", "correct horse battery", bits=2048, folder=str(tmp_path))
    assert list(made) == ["alice", tmp_path / "client/credentials", tmp_path / "server/tpasswd"]
    assert made.client is not None
    assert load_credentials(made.client).password == "correct horse battery"
    verifier = VerifierFile(made.server).find("alice")
    check_password(verifier, "correct horse battery")
    assert verifier.group.bits == 2048
    for path in (made.client, made.server):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_arguments_it_is_this_account_with_a_random_password(tmp_path: Path) -> None:
    passwords = set()
    for _ in range(2):
        made = generate_srp_data(folder=tmp_path)
        assert made.client is not None
        credentials = load_credentials(made.client)
        assert credentials.user == made.user == getpass.getuser()
        check_password(VerifierFile(made.server).find(made.user), credentials.password)
        passwords.add(credentials.password)
    assert len(passwords) == 2
    assert VerifierFile(made.server).users() == [made.user]


def test_the_other_users_stay(tmp_path: Path) -> None:
    generate_srp_data("alice", bits=2048, folder=tmp_path)
    made = generate_srp_data("bob", "a password of bob", bits=2048, folder=tmp_path, client_file=False)
    assert made.client is None
    assert VerifierFile(made.server).users() == ["alice", "bob"]
    assert load_credentials(tmp_path / "client/credentials").user == "alice"


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("al:ice",), {}, "'al:ice' cannot be used"),
        (("alice", ""), {}, "empty password"),
        (("alice",), {"client_file": False}, "not be stored anywhere else"),
        (("alice",), {"bits": 1024}, "1024 bits cannot be used: use one of 2048, 3072"),
    ],
)
def test_what_cannot_be_used_changes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], options: dict[str, int], text: str
) -> None:
    with pytest.raises(ConfigurationError, match=text):
        generate_srp_data(*arguments, folder=tmp_path, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_open_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir(mode=0o755)
    with pytest.raises(CredentialError, match="chmod 700"):
        generate_srp_data("alice", bits=2048, folder=tmp_path)
    assert not (tmp_path / "client").exists()


def test_a_password_that_can_be_tried_is_taken_only_on_purpose(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"only 7 characters.*allow_weak=True"):
        generate_srp_data("alice", "sevench", bits=2048, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    made = generate_srp_data("alice", "sevench", bits=2048, folder=tmp_path, allow_weak=True)
    check_password(VerifierFile(made.server).find("alice"), "sevench")


def test_a_member_has_its_password_beside_the_verifiers_and_a_name_that_nobody_else_has(
    tmp_path: Path,
) -> None:
    made = generate_srp_data(member=True, folder=tmp_path, bits=2048)
    assert list(made) == ["member+pool", tmp_path / "server/member", tmp_path / "server/tpasswd"]
    assert made.client is not None
    assert stat.S_IMODE(made.client.stat().st_mode) == 0o600
    check_password(VerifierFile(made.server).find("member+pool"), load_credentials(made.client).password)
    assert generate_srp_data("lab", member=True, folder=tmp_path, bits=2048).user == "member+lab"
    with pytest.raises(ConfigurationError, match="is for members"):
        generate_srp_data("member+lab", folder=tmp_path)
    assert not (tmp_path / "client").exists()

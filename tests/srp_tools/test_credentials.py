"""User names, passwords, and the client's file."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srp_tools.credentials import (
    Credentials,
    check_user_name,
    is_member,
    load_credentials,
    load_member,
    login_name,
    member_name,
    save_credentials,
)
from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.private_files import client_file, write_private
from srp_tools.rules.precis import prepare_password


def can_be_a_password(text: str) -> bool:
    try:
        return prepare_password(text) != ""
    except ConfigurationError:
        return False


NAMES = st.from_regex(r"[A-Za-z0-9._@+-]{1,64}", fullmatch=True)
PASSWORDS = st.text(min_size=1, max_size=60).filter(can_be_a_password)


@pytest.mark.parametrize("name", ["a", "alice", "A.b_c-d@e+9", "-", "x" * 64])
def test_good_names_are_taken(name: str) -> None:
    check_user_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "x" * 65, "x" * 10_000, "a:b", "a b", "a\n", "\n", "jürgen", "a\0", "a/b", "\u0661", "#a", "a,b"],
)
def test_bad_names_are_refused_in_a_short_text(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used") as caught:
        check_user_name(name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["jürgen", "a b", "a,b", "a/b", "x" * 255, "\u0627\u0661", " a", "a#"])
def test_names_that_other_programs_give_can_log_in(name: str, tmp_path: Path) -> None:
    save_credentials(Credentials(name, "password"), tmp_path / "credentials")
    assert load_credentials(tmp_path / "credentials", name) == Credentials(name, "password")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a:b",
        "a\n",
        "\n",
        "a\0",
        "#a",
        "x" * 256,
        "ü" * 128,
        "x" * 10_000,
        "\ud800",
        "a\u00a0b",
        "a\u2605",
        "a\u200bb",
    ],
)
def test_names_that_no_line_can_begin_with_cannot(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used") as caught:
        Credentials(name, "password")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("typed", "prepared"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("caf\u00e9", "caf\u00e9"),
        ("a\u00a0b\u3000c d", "a b c d"),
        ("\u212b\u2126", "\u00c5\u03a9"),
        ("\ufb01\uff21", "\ufb01\uff21"),  # OpaqueString does not change these
        ("correct horse:battery", "correct horse:battery"),
    ],
)
def test_a_password_is_the_same_however_it_is_typed(typed: str, prepared: str, tmp_path: Path) -> None:
    assert Credentials("alice", typed) == Credentials("alice", prepared)
    assert Credentials("alice", typed).password == prepared
    write_private(tmp_path / "credentials", f"alice:{typed}\n")
    assert load_credentials(tmp_path / "credentials").password == prepared


def test_a_name_is_the_same_however_it_is_typed(tmp_path: Path) -> None:
    assert Credentials("ju\u0308rgen", "x").user == login_name("ju\u0308rgen") == "j\u00fcrgen"
    assert Credentials("\uff41lice\u3000b", "x").user == "alice b"
    save_credentials(Credentials("j\u00fcrgen", "x"), tmp_path / "credentials")
    assert load_credentials(tmp_path / "credentials", "ju\u0308rgen").user == "j\u00fcrgen"


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "empty"),
        ("a\nb", "character 2 of the password is a control character"),
        ("a\r", "control character"),
        ("a\0", "control character"),
        ("\u2028", "is invisible"),
        ("\ud800", "is invisible"),
        ("\u2764\ufe0f", "character 2 of the password is invisible"),
        ("x" * 1025, "1025 characters"),
        ("\u0958" * 600, "1200 characters"),  # the normal form of each has two characters
    ],
)
def test_bad_passwords_are_refused_without_being_shown(password: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        Credentials("alice", password)
    assert not password or password not in str(caught.value)


def test_repr_hides_the_password() -> None:
    assert "secret" not in repr(Credentials("alice", "secret"))


@given(user=NAMES, password=PASSWORDS)
def test_saved_credentials_are_loaded_again(
    user: str, password: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip" / "credentials"
    save_credentials(Credentials(user, password), path)
    assert load_credentials(path) == Credentials(user, password)
    assert load_credentials(path, user) == Credentials(user, password)


def test_longest_credentials_fit(tmp_path: Path) -> None:
    longest = Credentials("x" * 255, "\U0001f600" * 1024)
    save_credentials(longest, tmp_path / "credentials")
    assert load_credentials(tmp_path / "credentials") == longest


def test_default_is_the_users_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(CredentialError, match="generate-srp-data"):
        load_credentials()
    save_credentials(Credentials("alice", "secret"), client_file())
    assert load_credentials() == Credentials("alice", "secret")


def test_saving_replaces_the_previous_user(tmp_path: Path) -> None:
    save_credentials(Credentials("alice", "one"), tmp_path / "credentials")
    save_credentials(Credentials("bob", "two"), tmp_path / "credentials")
    assert (tmp_path / "credentials").read_text() == "bob:two\n"


@pytest.mark.parametrize("text", ["alice:a:b", "alice:a:b\n", "alice:a:b\r\n"])
def test_line_is_split_at_the_first_colon_whatever_its_end(tmp_path: Path, text: str) -> None:
    write_private(tmp_path / "credentials", text)
    assert load_credentials(tmp_path / "credentials") == Credentials("alice", "a:b")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not one line user:password"),
        ("\n", "not one line user:password"),
        ("alice secret\n", "not one line user:password"),
        ("alice:one\nbob:two\n", "not one line user:password"),
        ("alice:one\n\n", "not one line user:password"),
        ("alice:\n", "line 1: an empty password"),
        ("al\x07ice:secret\n", "line 1: the user name"),
        ("alice:se\x07cret\n", "line 1: character 3 of the password is a control character"),
        ("alice:" + 5000 * "x", "too large"),
    ],
)
def test_malformed_file_is_refused_without_showing_the_password(
    tmp_path: Path, text: str, reason: str
) -> None:
    write_private(tmp_path / "credentials", text)
    with pytest.raises(CredentialError, match=f"credentials.*{re.escape(reason)}") as caught:
        load_credentials(tmp_path / "credentials")
    assert "secret" not in str(caught.value)


def test_password_of_another_user_is_not_taken(tmp_path: Path) -> None:
    save_credentials(Credentials("alice", "secret"), tmp_path / "credentials")
    with pytest.raises(CredentialError, match=r"password of 'alice', not of 'bob'.*generate-srp-data bob"):
        load_credentials(tmp_path / "credentials", "bob")


def test_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    save_credentials(Credentials("alice", "secret"), tmp_path / "credentials")
    (tmp_path / "credentials").chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 600"):
        load_credentials(tmp_path / "credentials")


def test_a_member_has_a_file_of_its_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "member"
    with pytest.raises(CredentialError, match="generate-srp-data --member"):
        load_member(path)
    save_credentials(Credentials("alice", "correct horse"), path)
    with pytest.raises(CredentialError, match="not a member"):
        load_member(path)
    save_credentials(Credentials(member_name("lab"), "correct horse"), path)
    assert load_member(path).user == "member+lab" and is_member("member+lab")

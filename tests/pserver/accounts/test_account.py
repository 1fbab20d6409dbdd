import pwd
from pathlib import Path

import pytest

from pserver.accounts.account import account_of, find_account, read_map, without_account
from srp_tools.errors import ConfigurationError
from tests.support.accounts import needs_root
from tests.support.own_accounts import NUMBERS, run_in_own_accounts


@needs_root
def test_an_account_is_found_by_name_and_number() -> None:
    code = """
from pserver.accounts.account import account_of, find_account
found = find_account("bob")
assert account_of(found.uid) == found
print(*found)
"""
    number = NUMBERS["bob"]
    assert run_in_own_accounts(code) == f"bob {number} {number} ({number},) /home/bob /bin/sh"


@pytest.mark.parametrize("name", ["root", "nobody", "daemon"])
def test_accounts_of_the_system_are_refused(name: str) -> None:
    number = pwd.getpwnam(name).pw_uid
    text = rf"'{name}' \(user id {number}\) belongs to the system"
    with pytest.raises(ConfigurationError, match=text):
        find_account(name)
    with pytest.raises(ConfigurationError, match=text):
        account_of(number)


@pytest.mark.parametrize("name", ["", "nobody-has-this", "a:b", "\0", "\udcff", "ü" * 1000])
def test_there_is_no_such_account(name: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no account"):
        find_account(name)


def test_there_is_no_account_of_that_number() -> None:
    for number in (2**31 - 7, 2**40):
        with pytest.raises(ConfigurationError, match=f"there is no account with the user id {number}"):
            account_of(number)


def test_without_account() -> None:
    missing = without_account({"alice": "root", "bob": "bob-at-work"}, ["alice", "bob", "nobody"])
    assert list(missing) == ["alice", "bob", "nobody"]
    assert missing["bob"] == (
        "the user 'bob' cannot log in: there is no account 'bob-at-work' on this machine"
    )


def test_a_map_has_names(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text('# the physicists\nalice = "physics1"\n"bob b" = "bob"\n')
    path.chmod(0o600)
    assert read_map(path) == {"alice": "physics1", "bob b": "bob"}
    assert read_map(None) == {}


@pytest.mark.parametrize("value", ["7", '""', '["a"]'])
def test_what_is_no_name_of_an_account(value: str, tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text(f'alice = "physics1"\nbob = {value}\n')
    path.chmod(0o600)
    with pytest.raises(
        ConfigurationError, match=r"accounts.toml, line 2: the account of 'bob' must be a string"
    ):
        read_map(path)


def test_a_map_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--account-map .*missing: there is no such file"):
        read_map(tmp_path / "missing")

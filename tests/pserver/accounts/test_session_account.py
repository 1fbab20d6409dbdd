from pathlib import Path

import pytest

from pserver.accounts.session_account import SessionAccount, account_folder, account_folders, make_way
from srp_tools.errors import ConfigurationError, ConnectionLostError
from tests.support.accounts import needs_root
from tests.support.own_accounts import NUMBERS, passable_folder, run_in_own_accounts


def test_there_may_be_no_account(tmp_path: Path) -> None:
    account = SessionAccount("nobody-has-this", tmp_path / "kept")
    assert (account.account, account.kept) == (None, tmp_path / "kept")
    with pytest.raises(ConnectionLostError, match="there is no account 'nobody-has-this'"):
        account.become()


@needs_root
def test_a_session_gets_a_folder_of_its_account() -> None:
    code = """
import sys
from pathlib import Path
from pserver.accounts.session_account import SessionAccount, make_way
kept = Path(sys.argv[1])
make_way(kept)
for _ in range(2):  # the second time it is there
    account = SessionAccount("alice", kept)
    import os
    if not os.fork():
        account.become()
        account.kept.mkdir(exist_ok=True)
        os._exit(0)
    os.wait()
print(account.kept)
"""
    with passable_folder() as folder:
        kept = folder / "spool" / "default" / "kept"
        made = Path(run_in_own_accounts(code, str(kept)))
        assert made == folder / "spool" / "default" / "accounts" / "alice" / "kept"
        assert account_folders(kept) == [account_folder(kept, "alice")] == [made.parent]
        facts = made.parent.stat()
        assert (facts.st_uid, facts.st_mode & 0o777) == (NUMBERS["alice"], 0o700)
        assert {each.stat().st_mode & 0o777 for each in (*made.parents[1:3], folder / "spool")} == {0o711}


def test_there_are_no_folders(tmp_path: Path) -> None:
    assert account_folders(tmp_path / "kept") == []


@needs_root
def test_accounts_must_get_through(tmp_path: Path) -> None:
    closed = tmp_path / "it is closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(
        ConfigurationError, match=r"cannot pass through .*; give another folder, or .*chmod o\+x"
    ):
        make_way(closed / "default" / "kept")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"--spool-dir: the folder .* cannot be made"):
        make_way(tmp_path / "file" / "default" / "kept")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]

import os
from pathlib import Path

import pytest

from pserver.accounts.account import Account
from pserver.accounts.session_account import (
    SessionAccount,
    account_folder,
    account_folders,
    make_account_folder,
    make_way,
)
from srp_tools.errors import ConfigurationError, ConnectionLostError
from tests.support.accounts import needs_root
from tests.support.own_accounts import NUMBERS, passable_folder, run_in_own_accounts

ALICE = Account("alice", 30001, 30001, (30001,), "/", "/bin/sh")


def test_the_system_is_asked_as_much_for_a_name_without_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = os.getgrouplist

    def ask(name: str, group: int) -> list[int]:
        asked.append(name)
        return real(name, group)

    monkeypatch.setattr(os, "getgrouplist", ask)
    names = ["nobody-has-this", "root", "nul\0", "\udc80", ""]
    for name in names:
        assert SessionAccount(name, tmp_path / "kept").account is None
    assert asked == names


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
for _ in range(2):  # the second time, the folder exists
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


@needs_root
def test_a_folder_that_was_not_given_to_its_account_gets_it(tmp_path: Path) -> None:
    for owner, expected in ((0, 30001), (30001, 30001), (30002, 30002)):
        folder = tmp_path / str(owner)
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, owner)
        make_account_folder(folder, ALICE)
        assert folder.stat().st_uid == expected
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(OSError, match="Not a directory"):
        make_account_folder(link, ALICE)
    assert tmp_path.stat().st_uid == 0


@needs_root
@pytest.mark.parametrize("kind", ["of another", "open", "open to a group", "a link", "a link to it"])
def test_a_way_that_others_can_change_is_refused(kind: str) -> None:
    with passable_folder() as folder:
        place, target = folder / "place", folder / "target"
        target.mkdir(mode=0o755)
        if kind == "a link":
            place.symlink_to(target)
            os.lchown(place, 30001, 30001)
        elif kind == "a link to it":
            (folder / "between").symlink_to("target")
            os.lchown(folder / "between", 30001, 30001)
            place.symlink_to("between")
        else:
            place.mkdir()
            place.chmod({"open": 0o777, "open to a group": 0o775}.get(kind, 0o755))
            os.chown(place, 30001 if kind == "of another" else 0, 30001)
        with pytest.raises(
            ConfigurationError, match=r"other accounts can change .*, which is part of the path to"
        ):
            make_way(place / "default" / "kept")
        assert not list(target.iterdir())


@needs_root
def test_a_way_through_links_of_root_and_a_sticky_folder() -> None:
    with passable_folder() as folder:
        (folder / "target").mkdir()
        (folder / "target").chmod(0o1777)
        (folder / "place").symlink_to("target/../target")
        make_way(folder / "place" / "default" / "kept")
        assert (folder / "target" / "default" / "accounts").is_dir()
        (folder / "loop").symlink_to("loop")
        with pytest.raises(ConfigurationError, match="Too many levels of symbolic links"):
            make_way(folder / "loop" / "default" / "kept")


def test_there_are_no_folders(tmp_path: Path) -> None:
    assert account_folders(tmp_path / "kept") == []


@needs_root
def test_accounts_must_get_through(tmp_path: Path) -> None:
    closed = tmp_path / "it is closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(
        ConfigurationError, match=r"cannot pass through .*: give another folder, or .*chmod o\+x"
    ):
        make_way(closed / "default" / "kept")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"--spool-dir: cannot create the folder .*"):
        make_way(tmp_path / "file" / "default" / "kept")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]

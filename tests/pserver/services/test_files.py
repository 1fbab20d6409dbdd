"""The files of a session, in this process."""

import os
from pathlib import Path

import pytest

from pconnect.files.listing import Listing, encode_name, list_tree
from pserver.services import files
from pserver.services.files import SessionFiles
from srp_tools.errors import ConfigurationError
from tests.support.accounts import NOBODY, in_child, needs_root


@pytest.fixture
def session(tmp_path: Path) -> SessionFiles:
    return SessionFiles(tmp_path, 10)


def test_where_paths_lead(session: SessionFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert session.folder.stat().st_mode & 0o777 == 0o700
    assert session.find("a/b") == tmp_path / "files" / "a" / "b"
    assert session.find("/etc/../a") == Path("/etc/../a")
    assert session.find("~/a") == Path("/home/somebody/a")
    assert session.find("~a") == session.folder / "~a"
    for name in ("", "a\0", "../a", "a/../../b"):
        with pytest.raises(ConfigurationError):
            session.find(name)


def test_a_later_transfer_ends_an_earlier_one(session: SessionFiles, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("123")
    packed = list_tree(tmp_path / "x").pack()
    path, offers = session.begin_put(b"1", b"y", packed)
    assert (path, offers) == (encode_name(str(session.folder / "y")), [])
    session.put(b"1", [], [[0, 0, b"1", None]])
    before = len(list(Path("/proc/self/fd").iterdir()))
    session.begin_put(b"2", b"z", packed)
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1
    with pytest.raises(ConfigurationError, match="begin again"):
        session.put(b"1", [], [[0, 1, b"23", b""]])
    session.end(b"1")  # this does not end the second transfer
    with pytest.raises(OSError, match="changed meanwhile"):
        session.put(b"2", [0], [])
    with pytest.raises(ConfigurationError, match="begin again"):  # an error ends the transfer
        session.put(b"2", [], [[0, 0, b"1", None]])
    assert Listing.unpack(session.begin_get(b"3", b"/" + encode_name(str(tmp_path / "x")))).total == 3


def test_the_limit_holds_for_both_ways(session: SessionFiles, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(11))
    with pytest.raises(ConfigurationError, match=r"x has 11 bytes, .* 10 bytes"):
        session.begin_get(b"1", encode_name(str(tmp_path / "x")))
    with pytest.raises(ConfigurationError, match=r"y has 11 bytes, .* 10 bytes"):
        session.begin_put(b"1", b"new/y", list_tree(tmp_path / "x").pack())
    assert list(session.folder.iterdir()) == []


def test_outside_of_an_engine() -> None:
    with pytest.raises(ConfigurationError, match="works only in the engine of a session"):
        files.session_files()


@pytest.mark.parametrize(
    ("mode", "group", "is_open"),
    [
        (0o755, None, False),
        (0o775, None, False),  # usual on systems where each user has a separate group
        pytest.param(0o775, 7, True, marks=needs_root),
        (0o777, None, True),
        (0o1777, None, True),
    ],
)
def test_who_may_put_files_into_a_folder(tmp_path: Path, mode: int, group: int | None, is_open: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if group is not None:
        os.chown(folder, -1, group)
    folder.chmod(mode)
    assert files.is_open_to_others(str(folder)) == is_open


@needs_root
def test_the_folder_of_another_account_is_open_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, -1)
    assert files.is_open_to_others(str(folder))


@needs_root
def test_a_folder_below_one_that_may_not_be_entered_is_not_usable(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    assert files.is_usable_folder(str(inner))
    inner.parent.chmod(0o700)
    assert in_child(NOBODY, lambda: str(files.is_usable_folder(str(inner)))) == "False"


def test_what_is_no_folder_is_not_usable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not any(map(files.is_usable_folder, ("", str(tmp_path / "file"), "/missing", "a\0b", 3)))

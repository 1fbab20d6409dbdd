"""The targets of the paths that clients give."""

import hashlib
from pathlib import Path

import pytest

from pconnect.files.listing import list_tree
from pconnect.files.partial_file import _DIGEST_BYTES
from pserver.services.files import SessionFiles
from pserver.services.paths import find_path
from srp_tools.errors import ConfigurationError


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionFiles:
    monkeypatch.setenv("HOME", "/home/somebody")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "session").mkdir()
    return SessionFiles(tmp_path / "session", 0)


@pytest.mark.parametrize(
    ("remote", "place"),
    [
        ("/a/b", "/a/b"),
        ("/a/../b", "/a/../b"),
        ("//a", "//a"),
        ("~", "/home/somebody"),
        ("~/", "/home/somebody"),
        ("~/a/b", "/home/somebody/a/b"),
        ("~//etc/passwd", "/home/somebody/etc/passwd"),
    ],
)
def test_paths_elsewhere(remote: str, place: str, session: SessionFiles) -> None:
    assert find_path(remote, session.folder) == Path(place)


@pytest.mark.parametrize("remote", ["a", "a/b", "~a", "~a/b", "a/~", "./a", "...", ".", "caf\udce9"])
def test_paths_in_the_folder(remote: str, session: SessionFiles) -> None:
    assert find_path(remote, session.folder) == session.folder / remote


@pytest.mark.parametrize(
    "remote", ["", "\0", "a\0b", "..", "../a", "a/..", "a/../b", "~/..", "~/../a", "~/a/../../b"]
)
def test_paths_that_are_refused(remote: str, session: SessionFiles) -> None:
    with pytest.raises(ConfigurationError, match=r"is not the name of a file|leads out of the"):
        find_path(remote, session.folder)


def test_a_link_does_not_lead_out_of_the_folder(session: SessionFiles, tmp_path: Path) -> None:
    folder, outside = session.folder, tmp_path / "outside"
    (folder / "file").symlink_to(outside / "secret")
    (folder / "way").symlink_to(outside)
    (folder / "within").mkdir()
    (folder / "within" / "file").symlink_to(outside / "secret")
    (folder / "good").write_text("good")
    (folder / "same").symlink_to("good")
    for remote in (b"file", b"way", b"way/secret", b"within", b"within/file"):
        with pytest.raises(ConfigurationError, match=r"leads through a symbolic link to .*outside"):
            session.begin_get(b"token", remote)
    (folder / "itself").symlink_to("itself")
    with pytest.raises(OSError, match="Too many levels"):
        session.begin_get(b"token", b"itself")
    for remote in (b"good", b"same", str(outside / "secret").encode()):
        session.begin_get(b"token", remote)


def test_nothing_is_put_behind_a_link_that_leads_out(session: SessionFiles, tmp_path: Path) -> None:
    folder, outside = session.folder, tmp_path / "outside"
    (folder / "way").symlink_to(outside)
    (folder / "file").symlink_to(outside / "secret")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "x").write_text("new")
    one, tree = list_tree(tmp_path / "tree" / "x").pack(), list_tree(tmp_path / "tree").pack()
    for remote, packed in ((b"way/secret", one), (b"way/new/x", one), (b"way", tree), (b"way/deeper", tree)):
        with pytest.raises(ConfigurationError, match=r"leads through a symbolic link to .*outside"):
            session.begin_put(b"token", remote, packed)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    session.begin_put(b"token", b"file", one)  # a link at the path of the file is replaced
    session.put(b"token", [], [[0, 0, b"new", hashlib.blake2b(b"new", digest_size=_DIGEST_BYTES).digest()]])
    assert (folder / "file").read_text() == "new" and (outside / "secret").read_text() == "secret"

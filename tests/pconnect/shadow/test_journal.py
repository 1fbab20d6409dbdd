import os
from pathlib import Path

import pytest

from pconnect.shadow.journal import FOLDER, Journal, Original
from srp_tools.errors import ConfigurationError
from tests.support.shadowing import make_program, names_in


def original(path: Path) -> Original:
    found = Original.of(path)
    assert found is not None
    return found


def test_what_is_recorded_is_read_and_forgotten(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    link = tmp_path / "link"
    link.symlink_to("to\udcff where")
    for path in (make_program(tmp_path / "x"), link):
        journal.record(path.name, original(path))
    assert journal.names() == ["link", "x"]
    assert [journal.read(name) for name in ("link", "x", "y")] == [
        original(link), original(tmp_path / "x"), None,
    ]  # fmt: skip
    assert (tmp_path / FOLDER / "bin" / "x").readlink() == Path("../../x_")
    journal.forget("link")
    journal.tidy()
    assert journal.names() == ["x"]
    journal.forget("x")
    journal.forget("x")
    journal.tidy()
    journal.sync()
    assert names_in(tmp_path) == ["link", "x"]


def test_others_can_use_the_links_whatever_the_mask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Journal(str(tmp_path)).record("x", original(make_program(tmp_path / "x")))
    finally:
        os.umask(before)
    folders = [tmp_path / FOLDER, tmp_path / FOLDER / "bin"]
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o755, 0o755]


def test_an_original_is_known_again(tmp_path: Path) -> None:
    one, two = make_program(tmp_path / "one"), make_program(tmp_path / "two")
    os.utime(two, ns=(0, one.stat().st_mtime_ns))
    assert original(one) != original(two)
    assert original(one).is_like(original(two))
    os.utime(two, ns=(0, 1))
    assert not original(one).is_like(original(two))
    assert not original(one).is_like(None)
    (tmp_path / "link").symlink_to("one")
    assert not original(one).is_like(original(tmp_path / "link"))
    assert Original.of(tmp_path / "missing") is None


def test_what_a_killed_one_has_left_is_removed(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    program = make_program(tmp_path / "x")
    journal.record("x", original(program))
    journal.write_new("y", b"half", 0o755)
    (tmp_path / FOLDER / "bin" / "y").symlink_to("../../y_")
    journal.tidy()
    assert names_in(tmp_path / FOLDER / "new") == []
    assert names_in(tmp_path / FOLDER / "bin") == ["x"]


def test_what_others_have_put_there_stays(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "mine").write_text("")
    Journal(str(tmp_path)).tidy()
    assert (tmp_path / FOLDER / "mine").exists()


def test_a_damaged_record_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    journal.record("x", original(make_program(tmp_path / "x")))
    for damage in (b"", b"{", b"[]", b'{"inode": 1}'):
        (tmp_path / FOLDER / "journal" / "x").write_bytes(damage)
        with pytest.raises(ConfigurationError, match="mv x_ x"):
            journal.read("x")


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / FOLDER).symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match="is a symbolic link"):
        Journal(str(tmp_path)).record("x", original(make_program(tmp_path / "x")))
    assert names_in(elsewhere) == []


@pytest.mark.parametrize("part", ["", "journal", "bin", "new"])
def test_nothing_is_removed_where_a_link_leads(tmp_path: Path, part: str) -> None:
    programs, elsewhere = tmp_path / "programs", tmp_path / "elsewhere"
    for folder in (programs, *(elsewhere / name for name in ("journal", "bin", "new"))):
        folder.mkdir(parents=True)
    for folder in (elsewhere, elsewhere / "bin", elsewhere / "new"):
        (folder / "of others").touch()
    mode = elsewhere.stat().st_mode
    if part:
        (programs / ".pshadow").mkdir()
    (programs / ".pshadow" / part).symlink_to(elsewhere)
    journal = Journal(str(programs))
    original = Original(1, 2, 3)
    for call in (
        journal.names,
        journal.tidy,
        lambda: journal.forget("x"),
        lambda: journal.record("x", original),
    ):
        with pytest.raises(ConfigurationError, match="is a symbolic link that pshadow did not create"):
            call()
    assert (elsewhere / "of others").exists() and elsewhere.stat().st_mode == mode

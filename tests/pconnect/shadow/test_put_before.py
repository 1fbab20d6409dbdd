from pathlib import Path

import platformdirs
import pytest

from pconnect.shadow.put_before import default_folder, put, stand_ins, take_away
from pconnect.shadow.stand_in import StandIn
from srp_tools.errors import ConfigurationError
from tests.support.shadowing import make_program, names_in


def put_all(folder: Path, *names: str, prun: str = "/bin/true") -> list[str]:
    wanted = {name: StandIn(f"/bin/{name}", prun) for name in names}
    return put(str(folder), wanted, {name: each.script({}) for name, each in wanted.items()})


def test_the_folder_is_one_of_this_user() -> None:
    assert Path(default_folder()).is_relative_to(platformdirs.user_data_path())


def test_stand_ins_come_and_go(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "bin"
    assert put_all(folder, "cat", "ls") == ["cat", "ls"]
    assert stand_ins(str(folder))["cat"] == StandIn("/bin/cat", "/bin/true")
    assert (folder / "cat").stat().st_mode & 0o777 == 0o755
    assert take_away(str(folder), ["ls", "rm"]) == ["ls"]
    assert take_away(str(folder), []) == ["cat"]
    assert names_in(folder) == []
    assert take_away(str(folder), []) == []
    assert take_away(str(tmp_path / "missing"), []) == []
    assert stand_ins(str(tmp_path / "missing")) == {}


def test_a_second_time_nothing_changes(tmp_path: Path) -> None:
    put_all(tmp_path, "cat", "ls")
    before = (tmp_path / "cat").stat()
    assert put_all(tmp_path, "cat", "ls") == []
    assert (tmp_path / "cat").stat() == before
    assert put_all(tmp_path, "cat", "ls", prun="/bin/false") == ["cat", "ls"]


@pytest.mark.parametrize("kind", ["program", "link", "folder", "in place"])
def test_what_is_not_ours_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ls"
    if kind == "program":
        make_program(path)
    elif kind == "link":
        path.symlink_to("/nonexistent")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(StandIn(str(path), "/bin/true", in_place=True).script({}))
    before = path.lstat()
    with pytest.raises(ConfigurationError, match=f"{path} exists and is not a stand-in"):
        put_all(tmp_path, "cat", "ls")
    assert take_away(str(tmp_path), []) == []
    assert names_in(tmp_path) == ["ls"]
    assert path.lstat().st_ino == before.st_ino


def test_what_was_half_written_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".cat.pshadow-new"
    left.write_text("half")
    put_all(tmp_path, "ls")
    assert names_in(tmp_path) == ["ls"]
    left.write_text("half")
    take_away(str(tmp_path), [])
    assert names_in(tmp_path) == []


def test_a_name_that_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not the name of a program"):
        put_all(tmp_path / "made", "a/b")
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=f"cannot create the folder {tmp_path}/file/bin"):
        put_all(tmp_path / "file" / "bin", "ls")

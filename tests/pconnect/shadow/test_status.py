import shutil
from pathlib import Path

import pytest

from pconnect.shadow.in_place import InPlace
from pconnect.shadow.journal import FOLDER
from pconnect.shadow.put_before import put
from pconnect.shadow.stand_in import StandIn
from pconnect.shadow.status import Row, folders_in_place, is_before, path_line, rows_before, rows_in_place
from tests.support.shadowing import make_program


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return make_program(tmp_path / "real" / "gcc")


@pytest.fixture
def prun(tmp_path: Path) -> Path:
    return make_program(tmp_path / "prun")


@pytest.fixture
def before(tmp_path: Path, real: Path, prun: Path) -> Path:
    """Make a folder with a stand-in for gcc."""
    folder = tmp_path / "stand-ins"
    stand_in = StandIn(str(real), str(prun))
    put(str(folder), {"gcc": stand_in}, {"gcc": stand_in.script({})})
    return folder


@pytest.fixture
def in_place(real: Path, prun: Path) -> InPlace:
    """Replace gcc by a stand-in."""
    programs = InPlace(str(real.parent))
    programs.on("gcc", StandIn(str(real), str(prun), in_place=True).script({}))
    return programs


def test_a_stand_in_that_comes_first(before: Path, real: Path) -> None:
    path = f"{before}:{real.parent}"
    assert list(rows_before(str(before), path)) == [
        Row("gcc", f"{before}/gcc", str(real), "folder", "yes", "")
    ]
    assert is_before(str(before), ["gcc"], path)


def test_a_stand_in_that_is_not_found(before: Path, real: Path) -> None:
    path = f"{real.parent}:{before}"
    [row] = rows_before(str(before), path)
    assert row.first == str(real)
    assert path_line(str(before)) in row.wrong
    assert not is_before(str(before), ["gcc"], path)
    [row] = rows_before(str(before), "/nonexistent")
    assert row.first == "nothing"


def test_a_stand_in_without_prun(before: Path, real: Path, prun: Path) -> None:
    prun.unlink()
    [row] = rows_before(str(before), f"{before}:{real.parent}")
    assert f"{prun} is gone" in row.wrong


@pytest.mark.usefixtures("in_place")
def test_a_stand_in_in_place(real: Path) -> None:
    folder = str(real.parent)
    assert list(rows_in_place(folder, folder)) == [Row("gcc", str(real), f"{real}_", "in place", "yes", "")]


@pytest.mark.usefixtures("in_place")
def test_a_stand_in_in_place_that_is_reached_by_another(real: Path, before: Path) -> None:
    [row] = rows_in_place(str(real.parent), f"{before}:{real.parent}")
    assert row.first == "yes"
    [row] = rows_in_place(str(real.parent), f"/nonexistent:{make_program(before / 'x' / 'gcc').parent}")
    assert row.first == f"{before}/x/gcc"


@pytest.mark.usefixtures("in_place")
def test_an_upgrade_is_noticed(real: Path) -> None:
    make_program(real.parent / "new").rename(real)
    [row] = rows_in_place(str(real.parent), str(real.parent))
    assert (row.real, row.stand_in) == (str(real), str(real))
    assert "upgraded" in row.wrong


@pytest.mark.usefixtures("in_place")
def test_a_damaged_record_is_shown(real: Path) -> None:
    (real.parent / FOLDER / "journal" / "gcc").write_text("")
    [row] = rows_in_place(str(real.parent), str(real.parent))
    assert "is damaged" in row.wrong


@pytest.mark.usefixtures("in_place")
def test_folders_where_something_is_in_place(real: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(real.parent)
    path = f"/nonexistent:{tmp_path}/link:{real.parent}:{tmp_path}"
    assert folders_in_place(path) == [str(real.parent)]
    shutil.rmtree(real.parent / FOLDER)
    assert folders_in_place(path) == [str(real.parent)]

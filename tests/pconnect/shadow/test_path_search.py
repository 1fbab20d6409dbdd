import sys
from pathlib import Path

import pytest

from pconnect.shadow.path_search import (
    candidates,
    find_program,
    find_prun,
    first_found,
    folders_of,
    forwarder_of,
    is_program,
    is_same,
    needs_own_folder,
    what_is_wrong,
)
from pconnect.shadow.stand_in import StandIn
from srp_tools.errors import ConfigurationError
from tests.support.shadowing import make_program


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Make a search path with a compiler cache, a stand-in, a plain file, a stand-in in place, and a real program."""
    make_program(tmp_path / "real" / "gcc")
    ccache = make_program(tmp_path / "bin" / "ccache")
    folders = ["ccache", "stand-ins", "files", "place", "real"]
    for name in folders:
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "ccache" / "gcc").symlink_to(ccache)
    for name, in_place in (("stand-ins", False), ("place", True)):
        script = StandIn(str(tmp_path / name / "gcc"), "/bin/true", in_place=in_place).script({})
        make_program(tmp_path / name / "gcc").write_bytes(script)
    (tmp_path / "files" / "gcc").write_text("text\n")
    (tmp_path / "files" / "g++").mkdir()
    return ":".join(["relative", *(str(tmp_path / name) for name in folders), "", str(tmp_path / "ccache")])


def test_a_path_has_absolute_folders_each_once(path: str) -> None:
    assert [Path(folder).name for folder in folders_of(path)] == [
        "ccache",
        "stand-ins",
        "files",
        "place",
        "real",
    ]


def test_programs_are_files_that_can_be_executed(path: str) -> None:
    found = [Path(each).parent.name for each in candidates("gcc", path)]
    assert found == ["ccache", "stand-ins", "place", "real"]
    assert candidates("g++", path) == []
    assert not is_program("/bin/sh/x")


def test_the_program_of_a_name_is_behind_stand_ins_and_caches(path: str, tmp_path: Path) -> None:
    assert find_program("gcc", path) == str(tmp_path / "place" / "gcc")
    assert first_found("gcc", path) == str(tmp_path / "stand-ins" / "gcc")
    assert first_found("g++", path) == ""


def test_a_name_without_program_is_an_error(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no program g"):
        find_program("g++", path)
    with pytest.raises(ConfigurationError, match=r"no program gcc in PATH except .*/ccache/gcc, which"):
        find_program("gcc", str(tmp_path / "ccache"))


@pytest.mark.usefixtures("path")
def test_a_cache_is_known_by_where_its_links_lead(tmp_path: Path) -> None:
    assert forwarder_of(str(tmp_path / "ccache" / "gcc")) == "ccache"
    assert forwarder_of(str(tmp_path / "bin" / "ccache")) == ""  # it runs the program in its arguments
    assert forwarder_of(str(tmp_path / "real" / "gcc")) == ""


@pytest.mark.parametrize(
    ("name", "target", "own"), [("gcc", "x-gcc-12", True), ("cc", "g++_", True), ("clang", "clang-14", False)]
)
def test_gcc_and_scripts_need_their_own_folder(tmp_path: Path, name: str, target: str, own: bool) -> None:
    (tmp_path / target).write_bytes(b"\x7fELF")
    (tmp_path / name).symlink_to(target)
    assert needs_own_folder(str(tmp_path / name)) == own
    assert needs_own_folder(str(make_program(tmp_path / "script")))


def test_the_same_file_by_two_names(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/bin/sh")
    assert is_same(str(tmp_path / "link"), "/bin/sh")
    assert not is_same("", "/bin/sh")


def test_prun_is_that_of_this_installation(tmp_path: Path) -> None:
    given = make_program(tmp_path / "given")
    in_path = make_program(tmp_path / "bin" / "prun")
    assert find_prun(str(given), "") == str(given)
    own = Path(sys.executable).parent / "prun"
    assert find_prun(None, str(in_path.parent)) == str(own.resolve() if own.exists() else in_path)
    with pytest.raises(ConfigurationError, match=f"no prun at {tmp_path}"):
        find_prun(str(tmp_path), "")


def test_a_prun_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ConfigurationError, match="no prun beside this Python or in PATH"):
        find_prun(None, str(tmp_path))


def test_what_is_wrong_with_a_stand_in(tmp_path: Path) -> None:
    program = str(make_program(tmp_path / "program"))
    assert what_is_wrong(StandIn(program, program)) == ""
    assert "everything runs here" in what_is_wrong(StandIn(program, str(tmp_path / "prun")))
    assert "calls fail" in what_is_wrong(StandIn(program, str(tmp_path / "prun"), no_local=True))
    assert "program is gone" in what_is_wrong(StandIn(f"{tmp_path}/no program", program))

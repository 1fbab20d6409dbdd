import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.shadow.in_place import InPlace, Outcome, State, shadow_all
from pconnect.shadow.journal import FOLDER
from pconnect.shadow.stand_in import StandIn, read_stand_in
from srp_tools.errors import ConfigurationError
from tests.support.shadowing import make_program, names_in, tree

IS_ROOT = os.geteuid() == 0


def script(folder: Path, name: str, prun: str = "/bin/true") -> bytes:
    return StandIn(str(folder / name), prun, in_place=True).script({})


@contextmanager
def shadowed(folder: Path, *names: str) -> Iterator[InPlace]:
    """Shadow programs in the body; check at the end that the folder is as before."""
    before = tree(folder)
    programs = InPlace(str(folder))
    assert shadow_all(programs, {name: script(folder, name) for name in names}) == list(names)
    assert programs.names() == sorted(names)
    yield programs
    for name in names:
        programs.off(name)
    assert tree(folder) == before


def test_a_program_is_kept_beside_and_comes_back(tmp_path: Path) -> None:
    path = make_program(tmp_path / "x")
    inode = path.stat().st_ino
    with shadowed(tmp_path, "x") as programs:
        assert programs.state("x") is State.ON
        assert (tmp_path / "x_").stat().st_ino == inode
        assert read_stand_in(path) == StandIn(str(path), "/bin/true", in_place=True)
        assert programs.off("x") is Outcome.RESTORED
    assert programs.state("x") is State.OFF
    assert programs.off("x") is Outcome.NOTHING


def test_a_link_is_kept_as_a_link(tmp_path: Path) -> None:
    make_program(tmp_path / "x-1")
    (tmp_path / "x").symlink_to("x-1")
    with shadowed(tmp_path, "x", "x-1"):
        assert (tmp_path / "x_").readlink() == Path("x-1")
        assert stat.S_ISREG((tmp_path / "x").lstat().st_mode)


# --- any folder of programs ---


@dataclass(frozen=True)
class Program:
    kind: str
    to: int
    mode: int
    mtime_ns: int
    owner: tuple[int, int]


PROGRAMS = st.lists(
    st.builds(
        Program,
        kind=st.sampled_from(["file", "file", "link", "hard link", "absolute link"]),
        to=st.integers(0, 7),
        mode=st.integers(0, 0o7777).map(lambda mode: mode | 0o500),
        mtime_ns=st.integers(0, 2**61),
        owner=st.sampled_from([(0, 0), (1, 1), (1, 0), (65534, 7)]),
    ),
    min_size=1, max_size=8,
)  # fmt: skip
NAMES = ["gcc", "g++", "cc", "x y", "it's", "\udcff$(x)", "-c", "a.b"]


def build(folder: Path, programs: list[Program]) -> list[str]:
    """Make the programs; return their names."""
    for number, program in enumerate(programs):
        path = folder / NAMES[number]
        to = NAMES[program.to % number] if number else ""
        if program.kind == "file" or not to:
            make_program(path)
        elif program.kind == "hard link":
            os.link(folder / to, path, follow_symlinks=False)
        else:
            path.symlink_to(folder / to if program.kind == "absolute link" else to)
        if IS_ROOT:
            os.chown(path, *program.owner, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(program.mode)
        os.utime(path, ns=(program.mtime_ns // 2, program.mtime_ns), follow_symlinks=False)
    return NAMES[: len(programs)]


@given(programs=PROGRAMS, data=st.data())
def test_all_comes_back_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, programs: list[Program], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("programs")
    names = build(folder, programs)
    before = tree(folder)
    place = InPlace(str(folder))
    for name in data.draw(st.lists(st.sampled_from(names), max_size=12), "switches"):
        if place.state(name) is State.OFF:
            place.on(name, script(folder, name))
            assert read_stand_in(folder / name) is not None
        else:
            assert place.off(name) is Outcome.RESTORED
    for name in place.names():
        place.off(name)
    assert tree(folder) == before


def test_who_can_run_the_program_can_run_the_stand_in(tmp_path: Path) -> None:
    path = make_program(tmp_path / "x", mode=0o711)
    if IS_ROOT:
        os.chown(path, 1, 7)
    path.chmod(0o4710)
    with shadowed(tmp_path, "x"):
        facts = path.stat()
        assert stat.S_IMODE(facts.st_mode) == 0o750
        assert (facts.st_uid, facts.st_gid) == ((1, 7) if IS_ROOT else (os.geteuid(), os.getegid()))


# --- changes by other programs ---


@pytest.fixture
def programs(tmp_path: Path) -> InPlace:
    """Shadow one program."""
    make_program(tmp_path / "x")
    place = InPlace(str(tmp_path))
    place.on("x", script(tmp_path, "x"))
    return place


def test_an_upgrade_stays(programs: InPlace, tmp_path: Path) -> None:
    make_program(tmp_path / "new", "new").rename(tmp_path / "x")
    assert programs.state("x") is State.UPGRADED
    assert programs.off("x") is Outcome.KEPT_UPGRADE
    assert names_in(tmp_path) == ["x"]
    assert b"new" in (tmp_path / "x").read_bytes()


def test_an_upgrade_is_shadowed_again(programs: InPlace, tmp_path: Path) -> None:
    make_program(tmp_path / "new", "new").rename(tmp_path / "x")
    assert programs.on("x", script(tmp_path, "x"))
    assert b"new" in (tmp_path / "x_").read_bytes()
    assert programs.state("x") is State.ON


def test_a_removed_stand_in_is_no_lost_program(programs: InPlace, tmp_path: Path) -> None:
    (tmp_path / "x").unlink()
    assert programs.state("x") is State.REMOVED
    assert programs.off("x") is Outcome.PUT_BACK
    assert names_in(tmp_path) == ["x"]


def test_a_program_that_was_removed_is_forgotten(programs: InPlace, tmp_path: Path) -> None:
    (tmp_path / "x").unlink()
    (tmp_path / "x_").unlink()
    assert programs.state("x") is State.GONE
    with pytest.raises(ConfigurationError, match="there is no program"):
        programs.on("x", b"")
    assert programs.off("x") is Outcome.FORGOTTEN
    assert names_in(tmp_path) == []


def test_a_program_that_is_lost_is_an_error_until_it_is_installed_again(
    programs: InPlace, tmp_path: Path
) -> None:
    (tmp_path / "x_").unlink()
    assert programs.state("x") is State.LOST
    for change in (lambda: programs.off("x"), lambda: programs.on("x", b"")):
        with pytest.raises(ConfigurationError, match="install it again"):
            change()
    make_program(tmp_path / "new").rename(tmp_path / "x")
    assert programs.off("x") is Outcome.RESTORED
    assert names_in(tmp_path) == ["x"]


def test_another_file_in_the_place_of_the_kept_one_does_not_become_the_program(
    programs: InPlace, tmp_path: Path
) -> None:
    make_program(tmp_path / "x_", "something longer")
    assert programs.state("x") is State.FOREIGN
    with pytest.raises(ConfigurationError, match="move the original program"):
        programs.off("x")
    make_program(tmp_path / "new").rename(tmp_path / "x")
    assert programs.off("x") is Outcome.KEPT_BOTH
    assert names_in(tmp_path) == ["x", "x_"]


def test_a_copy_of_the_folder_can_be_restored(programs: InPlace, tmp_path: Path) -> None:
    kept = tmp_path / "x_"
    facts, content = kept.stat(), kept.read_bytes()
    kept.unlink()
    make_program(tmp_path / "other")  # gets the free inode
    kept.write_bytes(content)
    os.utime(kept, ns=(0, facts.st_mtime_ns))
    assert programs.off("x") is Outcome.RESTORED


def test_without_its_records_a_program_comes_back(programs: InPlace, tmp_path: Path) -> None:
    for path in sorted((tmp_path / FOLDER).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / FOLDER).rmdir()
    assert programs.names() == ["x"]
    assert programs.off("x") is Outcome.RESTORED
    assert names_in(tmp_path) == ["x"]


# --- refusals ---


def test_a_second_time_only_a_new_script_is_written(programs: InPlace, tmp_path: Path) -> None:
    before = (tmp_path / "x").stat()
    assert not programs.on("x", script(tmp_path, "x"))
    assert (tmp_path / "x").stat() == before
    assert programs.on("x", script(tmp_path, "x", prun="/bin/false"))
    assert (tmp_path / "x").stat().st_mode == before.st_mode
    programs.off("x")
    assert names_in(tmp_path) == ["x"]


def test_a_file_of_the_name_that_is_needed_is_left_alone(tmp_path: Path) -> None:
    for name in ("x", "y", "x_"):
        make_program(tmp_path / name)
    before = tree(tmp_path)
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/x_ already exists"):
        shadow_all(InPlace(str(tmp_path)), {name: script(tmp_path, name) for name in ("y", "x")})
    assert tree(tmp_path) == before


def test_after_an_error_none_is_shadowed_that_was_not_before(tmp_path: Path) -> None:
    long = "z" * 255  # the file system refuses a longer name
    for name in ("x", "y", long):
        make_program(tmp_path / name)
    programs = InPlace(str(tmp_path))
    programs.on("x", script(tmp_path, "x"))
    before = tree(tmp_path)
    with pytest.raises(OSError, match="File name too long"):
        shadow_all(programs, {name: script(tmp_path, name) for name in ("x", "y", long)})
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", ["missing", "text", "dangling", "folder", "shell", "kept", "stand-in"])
def test_what_cannot_be_shadowed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "text":
        path.write_text("text")
    elif kind == "dangling":
        path.symlink_to("nothing")
    elif kind == "folder":
        path.mkdir()
    elif kind == "shell":
        path.symlink_to("/bin/sh")
    elif kind == "kept":
        make_program(tmp_path / "y")
        InPlace(str(tmp_path)).on("y", script(tmp_path, "y"))
        path = tmp_path / "y_"
    elif kind == "stand-in":
        make_program(path).write_bytes(StandIn("/bin/x", "/bin/true").script({}))
    before = tree(tmp_path)
    with pytest.raises(ConfigurationError, match=path.name):
        InPlace(str(tmp_path)).on(path.name, script(tmp_path, path.name))
    assert tree(tmp_path) == before

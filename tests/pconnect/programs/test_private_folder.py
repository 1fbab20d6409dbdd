"""The private folder of a program: its files at the start, and the files that go back."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from pconnect.errors import ConfigurationError
from pconnect.programs.private_folder import PrivateFolder

GIVEN = {"in/a": (0o640, b"first"), "b": (0o755, b"second")}


def filled(
    path: Path, files: Mapping[str, tuple[int, bytes]], outputs: list[str] | None = None
) -> PrivateFolder:
    path.mkdir(exist_ok=True)
    folder = PrivateFolder(path, outputs)
    folder.fill(files)
    return folder


def left(folder: PrivateFolder) -> list[str]:
    folder.tidy()
    return sorted(
        path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if not path.is_dir()
    )


def test_what_is_sent_is_there_and_does_not_go_back(tmp_path: Path) -> None:
    folder = filled(tmp_path, GIVEN)
    for name, (mode, data) in GIVEN.items():
        path = tmp_path / name
        assert (path.stat().st_mode & 0o7777, path.read_bytes()) == (mode, data)
    (tmp_path / "new").touch()
    assert left(folder) == ["new"]


def test_what_was_changed_or_replaced_goes_back(tmp_path: Path) -> None:
    folder = filled(tmp_path, GIVEN)
    (tmp_path / "b").write_bytes(b"SECOND")  # the same size, written immediately
    (tmp_path / "other").write_bytes(b"first")
    (tmp_path / "other").replace(tmp_path / "in" / "a")
    assert left(folder) == ["b", "in/a"]


def test_only_what_is_wanted_goes_back(tmp_path: Path) -> None:
    folder = filled(tmp_path, GIVEN, ["*.dat", "results", "b"])
    for name in ("x.dat", "deep/y.dat", "results/deep/z", "log", "deep/log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert left(folder) == ["deep/y.dat", "results/deep/z", "x.dat"]


def test_what_is_no_file_stays(tmp_path: Path) -> None:
    folder = filled(tmp_path / "folder", {"a": (0o600, b"")})
    os.mkfifo(folder.path / "pipe")
    (folder.path / "nowhere").symlink_to("none")
    (folder.path / "root").symlink_to("/")
    (folder.path / "link").symlink_to("file")
    (folder.path / "file").touch()
    (folder.path / "closed").mkdir()
    (folder.path / "closed" / "pipe").symlink_to("none")
    (folder.path / "closed").chmod(0)
    assert left(folder) == ["file", "link"]


def test_a_program_may_remove_its_folder(tmp_path: Path) -> None:
    folder = filled(tmp_path / "folder", {"a": (0o600, b"")})
    shutil.rmtree(folder.path)
    assert left(folder) == []


@pytest.mark.parametrize("name", ["../a", "/a", "", "a/../../b", "a//b"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    folder = PrivateFolder(tmp_path, None)
    with pytest.raises(ConfigurationError, match="is not the name of a file inside"):
        folder.fill({"x": (0o600, b""), name: (0o600, b"")})
    assert left(folder) == []
    assert not (tmp_path.parent / "a").exists()

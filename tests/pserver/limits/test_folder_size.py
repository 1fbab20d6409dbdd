"""The size of a folder: complete, without duplicates, and measured in small steps."""

import os
from pathlib import Path

import pytest

from pserver.limits.folder_size import FolderSize

MIB = 2**20


def measure(size: FolderSize, now: float) -> tuple[float, int]:
    """Measure until a round has ended; return the time, and the number of steps."""
    steps = 0
    while size.time_left(now) < 0.5:
        now += size.time_left(now)
        size.step(now)
        steps += 1
    return now, steps


def fill(path: Path, count: int = MIB) -> None:
    path.write_bytes(os.urandom(count))


def test_everything_below_counts_once(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    fill(tmp_path / "deep" / "er" / "b")
    os.link(tmp_path / "a", tmp_path / "deep" / "a again")
    (tmp_path / "out").symlink_to("/usr")
    size = FolderSize(str(tmp_path), 0.0)
    measure(size, 0.0)
    assert 2 * MIB <= size.size < 2 * MIB + 2**17


def test_a_hole_in_a_file_takes_no_room(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    size = FolderSize(str(tmp_path), 0.0)
    measure(size, 0.0)
    assert size.size < MIB


def test_it_is_measured_again(tmp_path: Path) -> None:
    size = FolderSize(str(tmp_path), 5.0)
    now, _ = measure(size, 5.0)
    assert size.size < MIB
    fill(tmp_path / "a")
    size.step(now + 0.5)
    assert size.size < MIB  # not yet
    measure(size, now + 1.0)
    assert size.size >= MIB
    (tmp_path / "a").unlink()
    measure(size, now + 100.0)
    assert size.size < MIB


def test_many_files_take_many_steps_and_a_longer_rest(tmp_path: Path) -> None:
    for number in range(1600):
        (tmp_path / str(number)).touch()
    size = FolderSize(str(tmp_path), 0.0)
    size.step(0.0)
    size.step(10.0)
    size.step(20.0)
    now, steps = measure(size, 30.0)
    assert steps == 1
    assert size.time_left(now) == pytest.approx(10 * now)


def test_what_is_gone_or_closed_is_no_error(tmp_path: Path) -> None:
    size = FolderSize(str(tmp_path / "gone"), 0.0)
    measure(size, 0.0)
    assert size.size == 0

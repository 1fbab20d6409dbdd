import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pconnect.shadow.changes import changing, check_closed, sync_folder, write_file
from srp_tools.errors import ConfigurationError
from tests.support.waiting import DEADLINE, wait_until


def test_a_second_one_waits_and_says_so(tmp_path: Path) -> None:
    program = f"""
from pconnect.shadow.changes import changing
with changing({str(tmp_path)!r}):
    open({str(tmp_path / "entered")!r}, "x").close()
"""
    said = tmp_path / "said"
    with changing(str(tmp_path)):
        with said.open("wb") as errors:
            other = subprocess.Popen([sys.executable, "-c", program], stderr=errors)
        wait_until(lambda: said.read_bytes().endswith(b"\n"), "the other to wait")
        assert not (tmp_path / "entered").exists()
    assert other.wait(DEADLINE) == 0
    assert (tmp_path / "entered").exists()
    assert said.read_text() == f"pshadow: waiting for another pshadow that is changing {tmp_path}\n"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "that you own"),
        (errno.EROFS, "another file system"),
        (errno.ENOSPC, "free some space"),
        (errno.EIO, ""),
    ],
)
def test_an_error_names_the_folder_and_what_to_do(tmp_path: Path, number: int, advice: str) -> None:
    text = f"cannot change {tmp_path}: {os.strerror(number)}.*{advice}"
    with pytest.raises(ConfigurationError, match=text), changing(str(tmp_path)):
        raise OSError(number, os.strerror(number))


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"), changing(str(tmp_path / "missing")):
        pass


def test_a_folder_that_everyone_can_write_is_refused(tmp_path: Path) -> None:
    check_closed(str(tmp_path))
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="chmod o-w"):
        check_closed(str(tmp_path))


def test_a_file_is_written_with_its_mode_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.symlink_to(tmp_path / "elsewhere")
    write_file(path, b"some", 0o754)
    assert (path.read_bytes(), path.lstat().st_mode & 0o777) == (b"some", 0o754)
    assert not (tmp_path / "elsewhere").exists()
    sync_folder(tmp_path)

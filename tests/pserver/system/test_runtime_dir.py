import os
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from pserver.system.runtime_dir import run_time_folder
from srp_tools.errors import ConfigurationError


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def tmp_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in /tmp of a user id without an account, which no real server uses."""
    user_id = 4_000_000_000 + os.getpid()
    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    return Path(f"/tmp/pserver-{user_id}")


def test_the_folder_is_made_for_its_owner_only(base: Path) -> None:
    folder = run_time_folder()
    assert folder == base / "pserver"
    assert stat.S_IMODE(folder.lstat().st_mode) & 0o777 == 0o700
    assert run_time_folder() == folder


def test_a_missing_folder_of_one_s_own_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSERVER_RUNTIME_DIR", str(base / "missing"))
    with pytest.raises(
        ConfigurationError, match=f"PSERVER_RUNTIME_DIR: the folder {base}/missing does not exist"
    ):
        run_time_folder()
    (base / "missing").mkdir()
    assert run_time_folder() == base / "missing/pserver"


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
def test_an_open_folder_is_refused_and_the_error_mends_it(base: Path, mode: int) -> None:
    folder = base / "pserver"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"open to others \\(mode {mode:04o}\\)") as caught:
        run_time_folder()
    subprocess.run(shlex.split(str(caught.value).partition("with: ")[2]), check=True)
    assert run_time_folder() == folder


def test_a_link_to_a_private_folder_is_refused_and_the_error_mends_it(base: Path) -> None:
    (base / "elsewhere").mkdir(mode=0o700)
    (base / "pserver").symlink_to(base / "elsewhere")
    with pytest.raises(ConfigurationError, match="not a real folder") as caught:
        run_time_folder()
    subprocess.run(shlex.split(str(caught.value).partition("with: ")[2]), check=True)
    assert run_time_folder() == base / "pserver"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_folder_of_somebody_else_is_refused(base: Path) -> None:
    (base / "pserver").mkdir(mode=0o700)
    os.chown(base / "pserver", 12345, -1)
    with pytest.raises(ConfigurationError, match=r"belongs to another account \(user id 12345\)"):
        run_time_folder()


@pytest.mark.parametrize("value", ["", "relative", "/nowhere/at/all"])
def test_without_a_usable_variable_it_is_in_tmp(
    value: str, tmp_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    try:
        assert run_time_folder() == tmp_folder
        assert stat.S_IMODE(tmp_folder.lstat().st_mode) & 0o777 == 0o700
    finally:
        tmp_folder.rmdir()


def test_a_folder_that_ends_with_the_login_is_not_used(
    base: Path, tmp_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pserver.system.runtime_dir._LOGIN_FOLDERS", base)
    (base / "1000").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base / "1000"))
    try:
        assert run_time_folder() == tmp_folder
    finally:
        tmp_folder.rmdir()

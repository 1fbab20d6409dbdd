"""The private folder of a session."""

import errno
import fcntl
import json
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.system.runtime_dir import run_time_folder
from pserver.system.session_folder import (
    is_session_folder,
    kept_folder,
    make_folder,
    remove_folder,
    remove_left,
    require_folder,
)
from srp_tools.errors import ConfigurationError


@pytest.fixture
def control() -> Iterator[socket.socket]:
    daemon, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with daemon, control:
        yield control


def test_it_is_private_and_the_daemon_knows_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    daemon, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with daemon, control:
        folder = make_folder(control, 5, tmp_path)
        assert json.loads(daemon.recv(1000)) == {"folder": folder, "mark": 5}
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    assert Path(folder).parent == tmp_path and list(Path(folder).iterdir()) == []


def test_a_daemon_that_is_gone_is_no_reason_to_stop(tmp_path: Path) -> None:
    daemon, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemon.close()
    with control:
        shutil.rmtree(make_folder(control, 5, tmp_path))


def test_each_session_looks_for_a_place_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: socket.socket
) -> None:
    place = tmp_path / "place"
    monkeypatch.setenv("TMPDIR", str(place))
    for is_there in (False, True, False):
        if is_there:
            place.mkdir()
        folder = Path(make_folder(control, 5, tmp_path))
        assert (folder.parent == place) == is_there
        shutil.rmtree(folder)
        shutil.rmtree(place, ignore_errors=True)


def test_a_place_without_room_is_none_and_the_error_names_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: socket.socket
) -> None:
    def write(path: Path, _: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(ConfigurationError) as told:
        make_folder(control, 5, tmp_path)
    text = str(told.value)
    assert f"{tmp_path / 'gone'}: No such file or directory; /tmp: No space left on device; " in text
    assert (
        f"; {tmp_path}: No space left on device): free some space there, or start the server with TMPDIR"
        in text
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_locked_so_that_nobody_takes_it_for_old(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with kept_folder(str(tmp_path)), pytest.raises(BlockingIOError):
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with kept_folder(str(tmp_path)):  # another process holds the lock, which does no harm
        pass
    os.close(folder)
    with kept_folder(str(tmp_path / "gone")):
        pass


def test_one_that_was_removed_is_named(tmp_path: Path) -> None:
    assert require_folder(str(tmp_path)) == tmp_path
    with pytest.raises(FileNotFoundError, match=r"was removed; connect again: '.*/gone'"):
        require_folder(tmp_path / "gone")


@pytest.mark.slow
def test_however_deep_it_is_it_can_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(1500):
        Path("d").mkdir()
        os.chdir("d")
    os.chdir(tmp_path)
    remove_folder(tmp_path / "d")
    assert not (tmp_path / "d").exists()
    remove_folder(tmp_path / "d")


def test_what_is_taken_for_a_folder_of_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: socket.socket
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PSERVER_RUNTIME_DIR", str(tmp_path))
    resort = run_time_folder()
    own = Path(make_folder(control, 5, resort))
    assert is_session_folder(str(own))
    (own / "pserver-inner").mkdir(0o700)
    (tmp_path / "pserver-link").symlink_to(own)
    (tmp_path / "pserver-file").touch(0o600)
    (tmp_path / "other").mkdir(0o700)
    (tmp_path / "pserver-open").mkdir(0o755)
    (resort / "pserver-x").mkdir(0o700)
    assert is_session_folder(str(resort / "pserver-x"))
    names = ["pserver-link", "pserver-file", "other", "pserver-open", "pserver-gone"]
    strangers = [own / "pserver-inner", Path("/"), Path.home(), *(tmp_path / name for name in names)]
    unclear = [f"{tmp_path}/other/../pserver-open", own.name, "", "\0", f"{tmp_path}/pserver-\0"]
    assert [path for path in (*map(str, strangers), *unclear) if is_session_folder(path)] == []
    resort.chmod(0o755)
    assert not is_session_folder(str(resort / "pserver-x"))
    assert is_session_folder(str(own))  # whatever happened to the run-time folder
    shutil.rmtree(own)


def test_only_what_is_left_over_of_this_server_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: socket.socket
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    left, held, worked_in, open_there, others, new = (
        Path(make_folder(control, 5, tmp_path, server)) for server in ["one"] * 4 + ["two", "one"]
    )
    before = new.stat().st_mtime
    for folder in (left, held, worked_in, open_there, others):
        (folder / "work").mkdir()
        os.utime(folder, (before - 1, before - 1))
    unnamed = Path(make_folder(control, 5, tmp_path))
    os.utime(unnamed, (before - 1, before - 1))
    with (
        kept_folder(str(held)),
        (open_there / "file").open("w"),
        subprocess.Popen(["sleep", "600"], cwd=worked_in / "work") as sleeper,
    ):
        os.utime(open_there, (before - 1, before - 1))
        assert remove_left("one", before) == [str(left)]
        assert not left.exists()
        assert all(each.exists() for each in (held, worked_in, open_there, others, new, unnamed))
        sleeper.kill()
    assert set(remove_left("one", before)) == {str(held), str(worked_in), str(open_there)}
    assert all(each.exists() for each in (others, new, unnamed))

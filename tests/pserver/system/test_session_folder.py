"""The private folder of a session."""

import json
import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from pserver.system.session_folder import make_folder, remove_folder


def test_it_is_private_and_the_daemon_knows_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    daemon, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with daemon, control:
        folder = make_folder(control, 5)
        assert json.loads(daemon.recv(1000)) == {"folder": folder, "mark": 5}
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700


def test_a_daemon_that_is_gone_is_no_reason_to_stop() -> None:
    daemon, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemon.close()
    with control:
        shutil.rmtree(make_folder(control, 5))


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

"""The status that other processes read, also when it cannot be written."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from pserver.daemon import status_publisher
from pserver.daemon.status_publisher import StatusPublisher
from pserver.system.pidfile import PidFile, find_server
from tests.support.places import use_private_places
from tests.support.servers import open_files
from tests.support.waiting import wait_until


class Full(PidFile):
    """A file on a disk that is full."""

    is_full = False

    def write(self, status: object) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(status)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_private_places(tmp_path, monkeypatch)


def shown() -> object:
    server = find_server("default")
    return server and server.status.get("used")


def test_what_cannot_be_written_is_logged_once_and_written_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(status_publisher, "_RETRY_SECONDS", 0.05)
    with Full("default") as pid_file:
        publisher = StatusPublisher(pid_file, lambda: {"pid": os.getpid(), "used": 1})
        pid_file.is_full = True
        publisher.publish()
        publisher.publish()
        assert 0 < publisher.tend() <= 0.05
        assert caplog.text.count("No space left on device") == 1
        pid_file.is_full = False
        wait_until(lambda: publisher.tend() > 1, "the next try")
        assert shown() == 1
        assert "wrote the status again" in caplog.text


def test_a_server_whose_folder_was_removed_can_be_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_publisher, "_LOOK_SECONDS", 0.05)
    before = open_files()
    with PidFile("default") as pid_file:
        publisher = StatusPublisher(pid_file, lambda: {"pid": os.getpid(), "used": 1})
        publisher.publish()
        shutil.rmtree(tmp_path / "run" / "pserver")
        assert find_server("default") is None
        wait_until(lambda: publisher.tend() > 0 and shown() == 1, "the files")
        assert open_files() == before + 1
    assert find_server("default") is None


def test_a_folder_that_cannot_be_made_again_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with PidFile("default") as pid_file:
        publisher = StatusPublisher(pid_file, lambda: {"pid": os.getpid()})
        shutil.rmtree(tmp_path / "run" / "pserver")
        (tmp_path / "run" / "pserver").mkdir(mode=0o755)  # another process would trust it
        (tmp_path / "run" / "pserver").chmod(0o755)
        publisher.publish()
        publisher.publish()
        assert caplog.text.count("cannot write the status") == 1


def test_one_that_is_removed_alone_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_publisher, "_LOOK_SECONDS", 0.05)
    with PidFile("default") as pid_file:
        publisher = StatusPublisher(pid_file, lambda: {"pid": os.getpid(), "used": 1})
        publisher.publish()
        for name in ("default.json", "default.pid"):
            (tmp_path / "run" / "pserver" / name).unlink()
            wait_until(lambda: publisher.tend() > 0 and shown() == 1, f"{name} again")


def test_the_rest_of_the_folder_is_made_again_only_by_the_holder_of_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_publisher, "_LOOK_SECONDS", 0.0)
    looks = []
    with PidFile("default") as pid_file:
        publisher = StatusPublisher(pid_file, lambda: {"pid": os.getpid()}, [lambda: looks.append("look")])
        publisher.publish()
        publisher.tend()
        assert looks == ["look"]
        shutil.rmtree(tmp_path / "run" / "pserver")
        with PidFile("default"):  # another server has taken the name meanwhile
            publisher.tend()
        assert looks == ["look"]

import errno
import os
import resource
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.system.log_file import LogFile, Rotation, StandardError, default_log
from tests.support.accounts import NOBODY, needs_root
from tests.support.own_accounts import passable_folder

SMALL = Rotation(max_bytes=100, files=3)
LINE = b"x" * 59 + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "log"


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def test_the_default_place_is_of_this_user_and_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_log("x") == tmp_path / "pserver" / "log" / f"x-{socket.gethostname()}.log"


def test_lines_are_appended_to_a_private_file(path: Path) -> None:
    for line in (b"one\n", b"two\n"):
        file = LogFile(path)
        file.write(line)
        file.close()
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_large_file_is_set_aside_and_the_oldest_goes(path: Path) -> None:
    file = LogFile(path, SMALL)
    for number in range(8):
        file.write(b"%d" % number + LINE)
    assert names(path) == ["log", "log.1", "log.2"]  # even before the next line
    file.write(b"8" + LINE)
    assert names(path) == ["log", "log.1", "log.2"]
    assert [(path.with_name(name).read_bytes()[:1]) for name in names(path)] == [b"8", b"6", b"4"]


@needs_root
def test_another_account_makes_and_opens_no_log() -> None:
    with passable_folder() as folder:
        folder.chmod(0o777)
        path = folder / "log"
        file, late = LogFile(path), LogFile(folder / "late")
        file.write(b"before\n")
        path.rename(folder / "old")
        os.seteuid(NOBODY)
        try:
            file.write(b"after\n")
            with pytest.raises(PermissionError, match="switched to another account"):
                late.write(b"lost\n")
        finally:
            os.seteuid(0)
        assert {each.name: each.read_bytes() for each in folder.iterdir()} == {"old": b"before\nafter\n"}
        file.write(b"root's again\n")
        assert path.read_bytes() == b"root's again\n"
        file.close()


def test_other_processes_follow_a_rotation(path: Path) -> None:
    daemon, other = LogFile(path, SMALL), LogFile(path)
    other.write(b"before\n")
    for _ in range(2):
        daemon.write(LINE)
    other.write(b"after\n")
    assert path.read_bytes() == b"after\n"
    assert path.with_name("log.1").read_bytes().startswith(b"before\n")


def test_without_a_rotation_it_grows(path: Path) -> None:
    for rotation in (None, Rotation(max_bytes=0)):
        file = LogFile(path, rotation)
        for _ in range(10):
            file.write(LINE)
    assert path.stat().st_size == 20 * len(LINE)
    assert names(path) == ["log"]


def test_standard_error_follows_where_it_went_to_the_same_file(path: Path) -> None:
    child = os.fork()
    if not child:
        try:
            file = LogFile(path, SMALL)
            file.write(LINE)
            output = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.dup2(output, 2)
            os.close(1)
            file.write(LINE)  # the file was rotated
            file.write(LINE)
            os.write(2, b"late\n")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert path.read_bytes() == LINE + b"late\n"


def test_of_a_link_the_target_is_set_aside(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    link = tmp_path / "link"
    link.symlink_to(path)
    file = LogFile(link, SMALL)
    for _ in range(3):
        file.write(LINE)
    assert link.is_symlink()
    assert names(path) == ["log", "log.1"]


def test_a_device_stays_where_it_is() -> None:
    file = LogFile(Path("/dev/full"), Rotation(max_bytes=1))
    with pytest.raises(OSError, match="No space"):
        file.write(LINE)
    file = LogFile(Path("/dev/null"), Rotation(max_bytes=1))
    file.write(LINE)
    file.write(LINE)
    assert Path("/dev/null").is_char_device()


def test_a_removed_folder_is_made_again(path: Path) -> None:
    file = LogFile(path)
    file.write(LINE)
    path.unlink()
    path.parent.rmdir()
    file.write(b"again\n")
    assert path.read_bytes() == b"again\n"


def test_a_place_that_cannot_be_written_is_an_error_until_it_can(path: Path) -> None:
    path.parent.write_text("not a folder")
    file = LogFile(path)
    with pytest.raises(NotADirectoryError):
        file.write(LINE)
    path.parent.unlink()
    file.write(b"again\n")
    assert path.read_bytes() == b"again\n"


def test_a_link_to_itself_is_an_error_until_it_is_a_file(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path.name)
    log = LogFile(path)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        log.write(b"lost\n")
    path.unlink()
    log.write(b"written\n")
    log.close()
    assert path.read_bytes() == b"written\n"


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_without_descriptors_a_renamed_file_is_written_on(path: Path, request: pytest.FixtureRequest) -> None:
    file = LogFile(path)
    file.write(b"1\n")
    path.rename(path.with_name("old"))
    request.getfixturevalue("few_descriptors")
    file.write(b"2\n")
    path.with_name("old").unlink()
    with pytest.raises(OSError, match="Too many open files") as caught:
        file.write(b"lost\n")
    assert caught.value.errno == errno.EMFILE


def test_after_half_a_line_the_next_begins_anew(path: Path) -> None:
    file = LogFile(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
        with pytest.raises(OSError, match="too large"):
            file.write(LINE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"x" * 20
    file.write(b"whole\n")
    assert path.read_bytes() == b"x" * 20 + b"\nwhole\n"


def test_a_folder_that_is_closed_to_us_leaves_the_file_as_it_is(path: Path) -> None:
    file = LogFile(path, SMALL)
    file.write(LINE)
    path.with_name("log.1").mkdir()  # even root cannot replace a folder by a file
    path.with_name("log.1").joinpath("x").mkdir()
    path.with_name("log.2").mkdir()
    path.with_name("log.2").joinpath("x").mkdir()
    for _ in range(5):
        file.write(LINE)
    assert path.stat().st_size == 6 * len(LINE)


def test_nobody_is_waited_for_who_does_not_read() -> None:
    reader, writer = os.pipe()
    before = os.dup(2)
    os.dup2(writer, 2)
    try:
        with pytest.raises(BlockingIOError):
            for _ in range(10_000):
                StandardError().write(LINE * 10)
    finally:
        os.dup2(before, 2)
        for descriptor in (before, reader, writer):
            os.close(descriptor)

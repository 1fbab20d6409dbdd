import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prun import SCRIPT, Prun, prun_user
from tests.support.servers import Server


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Prun]:
    with prun_user(tmp_path_factory.mktemp("prun"), [server]) as user:
        yield user


def test_standard_streams_may_be_anything(user: Prun, tmp_path: Path) -> None:
    given, written = tmp_path / "given", tmp_path / "written"
    given.write_bytes(b"x" * 3_000_000)
    for redirection, expected in [
        (f"wc -c < {given} > {written}", b"3000000\n"),
        (f"cat < {given} | wc -c > {written}", b"3000000\n"),
        (f"wc -c < /dev/null > {written}", b"0\n"),
        (f"wc -c <&- > {written}", b"0\n"),
        (f"sh -c 'echo a; echo b >&2' > {written} 2>&1", b"a\nb\n"),
        (f"sh -c 'echo a' >&- ; echo $? > {written}", None),
        (f"sh -c 'echo b >&2; echo a' 2>&- > {written}", None),
        (f"echo one > {written}; {SCRIPT} echo two >> {written}", b"one\ntwo\n"),
    ]:
        subprocess.run(
            ["sh", "-c", f"{SCRIPT} {redirection}"], env=user.environment, cwd=tmp_path, check=False
        )
        if expected is not None:
            assert sorted(written.read_bytes().splitlines()) == sorted(expected.splitlines()), redirection


def test_a_full_disk_is_reported(user: Prun) -> None:
    with Path("/dev/full").open("wb") as full:
        done = user.run("echo", "lost", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125
    assert done.stderr == b"prun: cannot write to standard output: No space left on device\n"


def test_the_wrong_end_of_a_pipe_is_not_used(user: Prun) -> None:
    """Opened again, it could be; and its end would never come, because we have it ourselves."""
    read, write = os.pipe()
    assert user.run("cat", stdin=write).stdout == b""
    user.run("echo", "a", stdout=read, capture_output=False, stderr=subprocess.PIPE)
    os.set_blocking(read, False)
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    os.close(read)
    os.close(write)

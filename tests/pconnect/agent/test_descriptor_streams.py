import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect.agent.descriptor_streams import DescriptorInput, DescriptorOutput
from pconnect.programs.streams import PIECE
from tests.support.prun import SCRIPT, Prun, prun_user
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


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
    """Opening it again would succeed, but the stream would never end, because we would hold its other end."""
    read, write = os.pipe()
    assert user.run("cat", stdin=write).stdout == b""
    user.run("echo", "a", stdout=read, capture_output=False, stderr=subprocess.PIPE)
    os.set_blocking(read, False)
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("turns", range(6))
def test_a_file_is_read_to_its_end_whenever_more_is_asked_for(tmp_path: Path, turns: int) -> None:
    """Each piece takes one turn of the loop; another grant follows after `turns` turns, during the first reads."""
    data = os.urandom(7 * PIECE + 5)
    (tmp_path / "file").write_bytes(data)
    sent: list[bytes] = []

    async def read() -> None:
        loop = asyncio.get_running_loop()
        stream = DescriptorInput(loop, os.open(tmp_path / "file", os.O_RDONLY), sent.append, lambda: None)
        stream.grant(3 * PIECE)
        for _ in range(6):
            for _ in range(turns):
                await asyncio.sleep(0)
            stream.grant(PIECE)
        while not sent or sent[-1]:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(read(), DEADLINE))
    assert sent[-1] == b"" and b"".join(sent) == data and sent.count(b"") == 1


def test_a_pipe_that_another_account_has_made_makes_nobody_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be opened again, so it stays a blocking descriptor."""
    real = os.open

    def refuse(path: str, *more: int) -> int:
        if path.startswith("/proc/self/fd/"):
            raise PermissionError(13, "Permission denied")
        return real(path, *more)

    monkeypatch.setattr(os, "open", refuse)
    data = os.urandom(3 * PIECE)
    read, write = os.pipe()
    came: list[bytes] = []

    async def pass_on() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        stream = DescriptorOutput(loop, write, lambda _: None, over.set, lambda: None)
        stream.take(data)  # returns, although there is no reader yet
        stream.take(b"")
        assert stream.is_blocked
        thread = threading.Thread(target=lambda: came.extend(iter(lambda: os.read(read, PIECE), b"")))
        thread.start()
        await over.wait()
        thread.join(DEADLINE)

    asyncio.run(asyncio.wait_for(pass_on(), DEADLINE))
    assert b"".join(came) == data
    os.close(read)

from collections.abc import Iterator

import pytest

from tests.support.prun import Prun, prun_user
from tests.support.servers import Server


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Prun]:
    with prun_user(tmp_path_factory.mktemp("prun"), [server]) as user:
        yield user


def test_slots_are_those_of_all_servers(user: Prun, server: Server) -> None:
    slots = int(server.status_now()["slots"]["total"])
    assert user.run("--slots").stdout == b"%d\n" % slots


def test_it_says_what_would_be_done(user: Prun) -> None:
    shown = user.run("--explain", "--nice", "3", "ls").stdout.decode()
    assert "nice" in shown and "the command line" in shown
    assert str(user.folder) in shown


def test_it_says_where_a_program_is(user: Prun) -> None:
    shown = user.run("--which", "sh").stdout.decode()
    assert shown.count("/bin/sh") == 2  # including the program on this machine
    done = user.run("--which", "no-such-program")
    assert (done.returncode, b"not found" in done.stdout) == (1, True)
    assert user.run("--which", "sh", "ls").returncode == 0


def test_it_says_what_ran_where(user: Prun, server: Server) -> None:
    user.run("sh", "-c", "exit 1")
    lines = user.run("--report").stdout.decode().splitlines()
    assert ["sh", server.host, "1", "1"] in [line.split()[:4] for line in lines]

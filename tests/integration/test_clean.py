"""On request, a server removes the leftovers of its own earlier runs at its start, and nothing else."""

import contextlib
import os
import signal
from pathlib import Path

import psutil
import pytest

from pconnect import Network
from srp_tools.credentials import Credentials
from tests.support.networks import assert_works
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

pytestmark = pytest.mark.slow


def kill(server: Server, net: Network) -> None:
    """Kill a server and a whole session at the same moment, as a power failure does."""
    wait_until(lambda: bool(server.sessions(net)), "the session to be known")
    [session] = server.sessions(net)
    processes = [
        server.process.pid,
        session,
        *(each.pid for each in psutil.Process(session).children(recursive=True)),
    ]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):  # an engine ends with its parent
                os.kill(pid, number)
    server.process.wait(DEADLINE)
    wait_gone(*processes)


@pytest.mark.parametrize("is_wanted", [False, True])
def test_folders_and_results_of_an_earlier_run_are_removed(
    tmp_path: Path, users: tuple[Credentials, Path], monkeypatch: pytest.MonkeyPatch, is_wanted: bool
) -> None:
    place, spool = tmp_path / "tmp", tmp_path / "spool"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    one, two = (f"--name={name}" for name in ("one", "two"))

    def folders() -> set[Path]:
        return set(place.glob("pserver-*"))

    def results(name: str) -> list[Path]:
        return list((spool / name / "kept").iterdir())

    for name in (one, two):
        with run_server(tmp_path / name, name, f"--spool-dir={spool}", users=users) as server:
            leaving = server.connect()
            leaving.submit(pow, 2, 3)
            leaving.detach(timeout=DEADLINE)
            wait_until(lambda: bool(results(name.removeprefix("--name="))), "the result")  # noqa: B023 - called at once
            with server.connect() as net:
                assert_works(net)
                kill(server, net)
    left = folders()
    assert len(left) == 2
    clean = ["--clean"] if is_wanted else []
    with (
        run_server(tmp_path / two, two, f"--spool-dir={spool}", users=users) as stranger,
        stranger.connect() as living,
        run_server(tmp_path / one, one, f"--spool-dir={spool}", *clean, users=users) as server,
    ):
        if is_wanted:
            wait_until(
                lambda: len(left - folders()) == 1 and not results("one"), "the leftovers to be removed"
            )
            server.wait_for_log("removed ", 2)
            assert server.log.count("removed ") == 2
        else:
            with server.connect() as net:
                assert_works(net)
            assert left < folders() and results("one")
        assert results("two")
        assert_works(living)

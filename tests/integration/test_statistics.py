"""A server's statistics, compared with the work done there."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import JobLostError
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Yield a server with two slots and no other load."""
    with run_server(tmp_path_factory.mktemp("counted"), "--slots=2", users=users) as running:
        yield running


def kill_worker() -> None:
    os.kill(os.getpid(), 9)


def totals(server: Server) -> dict[str, Any]:
    return dict(server.ask("statistics", brief=True)["totals"])


def run_script(net: ClientNetwork) -> None:
    """Run 25 jobs that end, 4 that fail, and 2 whose workers die; 3 programs that end, 2 that fail, and 1 that dies."""
    good = [net.submit(pow, number, 2) for number in range(25)]
    bad = [net.submit(int, "x") for _ in range(4)]
    assert [job.result(DEADLINE) for job in good] == [number**2 for number in range(25)]
    assert [type(job.exception(DEADLINE)).__name__ for job in bad] == ["RemoteValueError"] * 4
    for _ in range(2):
        with pytest.raises(JobLostError):
            net.submit(kill_worker).result(DEADLINE)
    for _ in range(3):
        net[1].run(["true"])
    for _ in range(2):
        net[1].run(["false"])
    with pytest.raises(JobLostError):
        net[1].run(["sh", "-c", "kill -9 $PPID"])


def test_the_figures_agree_with_a_scripted_run(counted: Server) -> None:
    before = totals(counted)
    with counted.connect() as net:
        run_script(net)
        wait_until(lambda: totals(counted)["programs_lost"] == 1, "the last report of the session")
    wait_until(lambda: not counted.ask("statistics")["sessions"], "the end of the session")
    document = counted.ask("statistics")
    sums = document["totals"]
    expected = {
        "jobs_done": 25, "jobs_failed": 4, "jobs_lost": 2, "programs_done": 3, "programs_failed": 2, "programs_lost": 1,
    }  # fmt: skip
    assert {name: sums[name] - before[name] for name in expected} == expected
    assert sums["sessions"] == before["sessions"] + 1
    assert sums["processing_seconds"] > 0 and sums["bytes_in"] > 1000 and sums["bytes_out"] > 1000
    slots = document["slots"]
    assert [slot["state"] for slot in slots] == ["free", "free"]
    for name, more in expected.items():
        assert sum(slot[name] for slot in slots) == more
    timeline = document["timeline"]
    assert len(timeline) == 37 and {span["user"] for span in timeline} == {"alice"}
    assert sorted({(span["kind"], span["outcome"], span["label"]) for span in timeline}) == [
        ("job", "done", "pow"),
        ("job", "failed", "int"),
        ("job", "lost", f"{__name__}.kill_worker"),
        ("program", "done", "true"),
        ("program", "failed", "false"),
        ("program", "lost", "sh"),
    ]
    assert all(span["begin"] <= span["end"] for span in timeline)


def test_what_runs_is_seen_and_lost_with_its_session(counted: Server, tmp_path: Path) -> None:
    before = totals(counted)["jobs_lost"]
    with counted.connect() as net:
        path = str(tmp_path / "begun")
        net.submit(wait_for_ever, path)
        wait_until(lambda: Path(path).exists(), "the job")

        def busy() -> list[dict[str, Any]]:
            return [slot for slot in counted.ask("statistics")["slots"] if slot["state"] == "busy"]

        wait_until(lambda: bool(busy()), "the report of the job")
        # A session that has just begun may not know its name yet.
        wait_until(lambda: bool(counted.ask("statistics")["timeline"][0]["label"]), "its name")
        [slot] = busy()
        [session] = counted.sessions(net)
        assert (slot["user"], slot["session"]) == ("alice", session)
        document = counted.ask("statistics")
        assert document["timeline"][0]["outcome"] == "running" and document["timeline"][0]["end"] is None
        [row] = document["sessions"]
        assert row["memory"] > 2**20 and row["slots"] >= 1 and len(row["network"]) == 8
        os.kill(session, 9)
        wait_until(lambda: totals(counted)["jobs_lost"] == before + 1, "the end of the session")
    assert counted.ask("statistics")["timeline"][0]["label"] == f"{__name__}.wait_for_ever"


def test_of_very_many_short_jobs_all_are_counted(counted: Server) -> None:
    before = totals(counted)["jobs_done"]
    with counted.connect() as net:
        assert sum(net.map(abs, range(5000))) == 12_497_500
    wait_until(lambda: not counted.ask("statistics", brief=True)["sessions"], "the end of the session")
    document = counted.ask("statistics")
    assert document["totals"]["jobs_done"] - before == 5000
    assert sum(slot["jobs_done"] for slot in document["slots"]) >= 5000
    assert 256 <= len(document["timeline"]) <= 2000
    assert document["totals"]["queue_seconds"] > 0


def wait_for_ever(path: str) -> None:
    Path(path).touch()
    time.sleep(1000)


def ctl(server: Server, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pserver", "ctl", "statistics", *words],
        capture_output=True, text=True, timeout=DEADLINE, check=False,
        env=os.environ | {"XDG_RUNTIME_DIR": str(server.folder)} | variables,
    )  # fmt: skip


def test_the_words_of_the_command_line(counted: Server) -> None:
    name = f"--name={counted.status['name']}"
    shown = ctl(counted, name)
    assert shown.returncode == 0 and "Jobs: " in shown.stdout and "SLOT  STATE" in shown.stdout
    assert json.loads(ctl(counted, name, "--json").stdout)["machine"]["processors"] >= 1


def test_a_user_who_is_no_administrator_may_ask_and_sees_little(counted: Server, tmp_path: Path) -> None:
    password = tmp_path / "credentials"
    password.write_text(f"{counted.credentials.user}:{counted.credentials.password}\n")
    password.chmod(0o600)
    with counted.connect() as net:
        variables = {"PCONNECT_CREDENTIALS": str(password)}
        done = ctl(counted, "--host", counted.host, "--json", **variables)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert [row["user"] for row in document["sessions"]] == [counted.credentials.user]
        assert document["sessions"][0]["network"] == net.network_id[:8]

"""Sessions whose server was killed, simulated by idle processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.admin.control import pserver
from pserver.admin.left_sessions import end_left_sessions, left_sessions
from pserver.cli import main
from pserver.system.pidfile import PidFile
from pserver.system.processes import start_ticks
from pserver.system.runtime_dir import run_time_folder
from tests.support.places import use_private_places
from tests.support.waiting import DEADLINE

_KILLED = """
import json, os, sys
from pserver.system.pidfile import PidFile
pid_file = PidFile("one").__enter__()
pid_file.write({"name": "one", "pid": os.getpid(), "sessions": json.loads(sys.argv[1])})
os._exit(1)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_private_places(tmp_path, monkeypatch)
    return run_time_folder()


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[bytes]"]:
    stubborn = "trap '' TERM; echo; while :; do sleep 0.05; done"
    script = stubborn if getattr(request, "param", False) else "echo; exec sleep 1000"
    process = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.stdout.close()
    process.kill()
    process.wait(DEADLINE)


def be_killed(*sessions: object) -> None:
    """Leave the files that a killed server leaves behind."""
    subprocess.run([sys.executable, "-c", _KILLED, json.dumps(sessions)], check=False, timeout=DEADLINE)


def facts(process: "subprocess.Popen[bytes]") -> dict[str, object]:
    ticks = start_ticks(process.pid)
    return {"pid": process.pid, "start_ticks": ticks, "user": "alice", "network": "ab"}


def test_status_and_stop_name_them_and_stop_ends_them(
    session: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    be_killed(facts(session))
    for arguments in (["status"], ["status", "--name=one"]):
        assert main(arguments) == 3
        out, err = capsys.readouterr()
        assert (out, err) == (
            "",
            "pserver: the server 'one' was killed, and 1 session is still alive: "
            f"session {session.pid} of user 'alice', network ab. To keep using them, start the server again with the "
            "same options: pserver start --name one; to end them: pserver stop --name one\n",
        )
    assert main(["stop"]) == 3  # another name
    capsys.readouterr()
    assert main(["stop", "--name=one"]) == 0
    assert capsys.readouterr().out == (
        f"Ended session {session.pid} of user 'alice', network ab, which had outlived the server one.\n"
    )
    assert session.wait(DEADLINE) == -15
    assert main(["stop", "--name=one"]) == 3


def test_detached_jobs_of_a_killed_server_are_not_lost_without_a_word(
    session: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    be_killed(facts(session) | {"detached": True})
    assert main(["stop", "--name=one"]) == 1
    assert (
        f"is running detached jobs: session {session.pid} of user 'alice', network ab."
        in capsys.readouterr().err
    )
    assert session.poll() is None
    assert main(["stop", "--name=one", "--force"]) == 0
    assert session.wait(DEADLINE) == -15


def test_killing_a_server_from_python_warns_of_detached_jobs(session: "subprocess.Popen[bytes]") -> None:
    be_killed(facts(session) | {"detached": True})
    with pytest.warns(RuntimeWarning, match=f"the detached jobs of session {session.pid} .* are lost"):
        assert pserver("kill", name="one")
    assert session.wait(DEADLINE) == -15


@pytest.mark.parametrize("session", [True], indirect=True)
def test_one_that_does_not_end_is_killed(session: "subprocess.Popen[bytes]") -> None:
    be_killed(facts(session))
    assert [found.pid for found in end_left_sessions("one", 0.1)] == [session.pid]
    assert session.wait(DEADLINE) == -9


def test_kill_from_python_ends_them(session: "subprocess.Popen[bytes]") -> None:
    be_killed(facts(session))
    assert pserver("kill", name="one") is True
    assert session.wait(DEADLINE) == -15
    assert pserver("kill", name="one") is False


@pytest.mark.parametrize("wrong", [{"start_ticks": 1}, {"pid": 0}, {"start_ticks": None}, {"pid": "x"}])
def test_a_stranger_with_the_number_of_a_session_is_left_alone(
    session: "subprocess.Popen[bytes]", wrong: dict[str, object]
) -> None:
    be_killed(facts(session) | wrong, [], 5)
    assert left_sessions() == {}
    assert end_left_sessions("one", 0.1) == []
    assert session.poll() is None


def test_those_of_a_server_that_lives_are_its_own(session: "subprocess.Popen[bytes]") -> None:
    be_killed(facts(session))
    with PidFile("one") as pid_file:
        pid_file.write({"name": "one", "pid": os.getpid(), "sessions": [facts(session)]})
        assert left_sessions() == {}
    assert left_sessions() == {}  # it stopped cleanly

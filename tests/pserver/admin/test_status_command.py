import os
from pathlib import Path

import pytest

from pserver.admin.status_command import name_option, orphans, report_none, status_table
from pserver.system.pidfile import PidFile
from tests.support.places import use_private_places

STATUS: dict[str, object] = {
    "cmd_port": 1,
    "data_port": 2,
    "bind": None,
    "use_tls": True,
    "started": 0.0,
    "sessions": [],
}


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_private_places(tmp_path, monkeypatch)


def test_a_row_says_whether_the_server_answers() -> None:
    sessions = [{"detached": True}, {"detached": False}]
    slots = {"total": 4, "used": 1}
    shown = str(
        status_table(
            [
                ("one", 10, {**STATUS, "sessions": sessions, "slots": slots}),
                ("two", 11, {**STATUS, "answers": False}),
                ("three", 12, {"name": "three", "pid": 12}),
            ]
        )
    ).splitlines()
    assert shown[1].split()[:6] == ["one", "10", "1", "2", "all", "addresses"]
    assert shown[1].endswith(" 2 (1 detached)  1 of 4")
    assert shown[2].endswith(" 0               does not answer")
    assert shown[3].split() == ["three", "12", "starting"]


def test_sessions_whose_client_has_vanished_are_named_with_the_instant() -> None:
    vanished = {"pid": 7, "user": "alice", "orphaned": 0.0 + 86400 * 365}
    sessions = [vanished, {"pid": 8, "user": "bob", "orphaned": None}]
    assert " 2 (1 orphaned) " in str(status_table([("one", 10, {**STATUS, "sessions": sessions})]))
    (line,) = orphans({"sessions": sessions})
    assert line.startswith("Session 7 of alice has been orphaned since 19")
    assert orphans({}) == []


def test_none_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with PidFile("one"):
        assert report_none("two") == 3
    assert capsys.readouterr().err == (
        "pserver: no server named 'two' is running; choose one of these with --name: one\n"
    )
    assert os.getpid()
    assert (name_option("default"), name_option("a b")) == ("", " --name 'a b'")

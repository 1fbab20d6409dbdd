"""The command: its output and its exit status."""

import argparse
from pathlib import Path

import pytest

from pserver.doctor.checks import Level
from pserver.doctor.command import check_all, run_doctor
from tests.support.servers import make_users

pytestmark = pytest.mark.usefixtures("places")


def test_all_parts_of_this_machine_are_looked_at() -> None:
    shown = "\n".join(map(str, check_all()))
    for part in (
        "Python 3.",
        "command port",
        "cgroup",
        "clock",
        "results of detached networks",
        "tpasswd, mode",
    ):
        assert part in shown


def test_the_users_file_of_the_settings_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = make_users(tmp_path / "elsewhere")
    monkeypatch.setenv("PSERVER_AUTH_FILE", str(path))
    assert f"{path}, mode 0600, fingerprint " in "\n".join(map(str, check_all()))


def test_a_fault_is_its_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert [each for each in check_all() if each.level is Level.WRONG] == []
    assert run_doctor(argparse.Namespace(hosts=[])) == 0
    monkeypatch.setenv("PSERVER_SLOTS", "many")
    assert run_doctor(argparse.Namespace(hosts=[])) == 1
    assert (
        "WRONG the settings of a server are invalid\n      -> PSERVER_SLOTS=many" in capsys.readouterr().out
    )

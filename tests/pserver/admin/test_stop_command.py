"""The command that stops a server; `tests.integration.test_ctl` covers the clients' view."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pserver.cli import main
from tests.support.places import OPTIONS, use_private_places
from tests.support.waiting import DEADLINE


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_private_places(tmp_path, monkeypatch)


def start() -> None:
    command = [sys.executable, "-m", "pserver", "start", *OPTIONS, "--no-tls"]
    subprocess.run(
        command, check=True, timeout=DEADLINE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def test_an_idle_server_ends_when_idle_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    start()
    assert main(["stop", "--when-idle"]) == 0
    assert re.fullmatch(r"Stopped default \(pid \d+\)\.\n", capsys.readouterr().out)
    assert main(["stop", "--when-idle"]) == 3


def test_two_ways_to_stop_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    start()
    assert main(["stop", "--when-idle", "--force"]) == 1
    assert "--when-idle and --force" in capsys.readouterr().err
    assert main(["stop"]) == 0


def test_ctl_prints_one_object_for_each_end_that_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("stop", "exit", "quit"):
        start()
        assert main(["ctl", word, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["stopped"] > 0
        assert facts == facts | {"killed": False, "ended": [], "detached": [], "left": []}

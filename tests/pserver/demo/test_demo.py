"""The demonstration from outside: its output, its exit status, and that it leaves nothing behind."""

import importlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from srp_tools.errors import ConfigurationError
from tests.support import places


@pytest.fixture(autouse=True)
def _private_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put temporary files where the test can see them, and check that none is left."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
    assert [path.name for path in folder.iterdir() if "pserver-demo" in path.name] == []


@pytest.fixture
def demo() -> Any:
    """Return the module. Its import takes seconds, which not every process that collects tests should pay."""
    return importlib.import_module("pserver.demo.demo")


@pytest.fixture(name="_small")
def _make_small(monkeypatch: pytest.MonkeyPatch, demo: Any) -> None:
    for name, value in {
        "_WIDTHS": (18.0, 27.0),
        "_PENALTIES": (0.01, 0.1),
        "_FOLDS": 2,
        "_ROWS": 60,
        "_COLUMNS": 90,
        "_STEPS": 40,
        "_LINK_BYTES": 2**20,
    }.items():
        monkeypatch.setattr(demo, name, value)


def _ports(text: str) -> list[int]:
    started = re.search(r"Started 3 servers .*", text)
    assert started is not None
    return [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", started[0])]


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
def test_right(demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "heat.png"
    before = dict(os.environ)
    assert demo.main(["--output", str(picture)]) == 0
    text = capsys.readouterr().out
    assert text.count("right: identical to serial numpy") == 2
    assert "server -> server" in text
    assert text.index("Stopped the servers") < text.index("your own machines")
    rows = [line.split() for line in text.splitlines() if re.match(r" *[0-3] +(client|127)", line)]
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert len({row[2] for row in rows}) == 4
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    assert len(_ports(text)) == 3
    assert not any(map(places.listens, _ports(text)))
    assert dict(os.environ) == before


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
def test_wrong_result_is_told(
    demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Compare the servers' result with one that has one step more.
    right = demo.serial_heat
    monkeypatch.setattr(demo, "serial_heat", lambda plate, steps: right(plate, steps + 1))
    assert demo.main(["--output", str(tmp_path / "heat.png")]) == 1
    text = capsys.readouterr().out
    assert "WRONG: differs from serial numpy by up to" in text
    assert text.count("right: identical") == 1


def test_missing_folder_is_told_before_anything_starts(
    demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigurationError, match="there is no folder"):
        demo.main(["--output", str(tmp_path / "missing" / "heat.png")])
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + 15), (signal.SIGHUP, 128 + 1)]
)
def test_signals_leave_no_server_behind(tmp_path: Path, number: signal.Signals, status: int) -> None:
    command = [sys.executable, "-u", "-m", "pserver", "demo", "--output", str(tmp_path / "heat.png")]
    # Without coverage: it would triple the import time, and other tests run all of this code.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process:
        assert process.stdout is not None
        text = ""
        while "Cross-validation" not in text:
            line = process.stdout.readline()
            assert line
            text += line
        process.send_signal(number)
        text += process.stdout.read()
    assert process.returncode == status
    assert "Heat" not in text
    assert len(_ports(text)) == 3
    assert not any(map(places.listens, _ports(text)))

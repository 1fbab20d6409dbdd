"""Facts about a machine, with programs made by the tests."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pconnect.programs import machine
from pconnect.programs.machine import find_programs, machine_facts, version_of
from pconnect.shadow.guard import VARIABLE
from tests.support.waiting import wait_gone

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def made(text: str, name: str = "tool") -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return made


def test_a_program_has_path_version_and_digest(make: Make) -> None:
    path = make('[ "$*" = --version ] && [ "$PSERVER_SHADOW" ] && printf "\\n  tool 1.2  \\nmore\\n"')
    digest = hashlib.sha256(path.read_bytes()).digest()
    assert find_programs(["tool", str(path), "no-such", "", "a\0b"]) == {
        "tool": (str(path), "tool 1.2", digest),
        str(path): (str(path), "tool 1.2", digest),
        "no-such": None,
        "": None,
        "a\0b": None,
    }


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("echo out of order >&2", "out of order"),
        ("echo tool 1; exit 3", None),
        ("echo illegal option; exit 2", None),
        ("cat", None),  # its input is empty
        ("true", None),
        ("printf '\\377x'", "\ufffdx"),
        ("printf '%0999d' 0", "0" * 200),
    ],
)
def test_the_version_is_the_first_line_of_a_success(make: Make, text: str, version: str | None) -> None:
    assert version_of(str(make(text))) == version


def test_output_without_end_is_not_kept(make: Make) -> None:
    assert version_of(str(make("yes")), 0.3) is None


def test_what_cannot_be_executed_has_no_version(make: Make) -> None:
    path = make("")
    path.write_bytes(b"\x7fELF")
    assert version_of(str(path)) is None


def test_a_program_that_does_not_end_is_killed_with_its_children(make: Make, tmp_path: Path) -> None:
    path = make(f"echo tool 1; sleep 600 & echo $! > {tmp_path}/pid; wait")
    begin = time.monotonic()
    assert version_of(str(path), 0.3) is None
    assert time.monotonic() - begin < 10
    child = int((tmp_path / "pid").read_text())
    wait_gone(child)


def test_the_machine_tells_numbers() -> None:
    facts = machine_facts(["sh", "no-such"])
    assert facts["programs"] == ["sh"]
    assert facts["cpus"] >= 1 and facts["load"] >= 0 and facts["memory"] > 2**20


def test_a_stand_in_knows_the_variable() -> None:
    assert machine._SHADOW == VARIABLE

"""The processes of a Dask cluster, started as by an engine, but in this process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pserver.services import dask_processes
from pserver.services.dask_processes import DaskProcesses
from pserver.services.files import SessionFiles
from srp_tools.certificates import NetworkAuthority
from srp_tools.errors import AuthenticationError, ConfigurationError
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE, wait_gone

AUTHORITY = NetworkAuthority(bytes(16))
SETTINGS = {"hosts": ["127.0.0.1"], "threads": 1, "memory_limit": None, "grace": DEADLINE}


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[DaskProcesses]:
    before = open_files()
    processes = DaskProcesses(SessionFiles(tmp_path, 0))
    yield processes
    processes.stop("it", 0)
    assert open_files() == before
    assert list(tmp_path.glob("dask-*")) == []


def begin(dask: DaskProcesses, *names: str, **settings: Any) -> None:
    _, keys = dask.prepare("it", names)
    certificates = {name: AUTHORITY.sign_role(key, name) for name, key in keys.items()}
    dask.start("it", certificates, AUTHORITY.certificate, SETTINGS | settings)


def look_until(dask: DaskProcesses, name: str, fact: str) -> dict[str, Any]:
    """Call `look` until a fact about a process is known."""
    deadline = time.monotonic() + DEADLINE
    while (facts := dask.look("it", 0.1)[name])[fact] is None:
        assert time.monotonic() < deadline, f"no {fact} of {name}"
    return facts


@pytest.mark.slow
def test_a_cluster_from_its_keys_to_its_end(dask: DaskProcesses, tmp_path: Path) -> None:
    begin(dask, "scheduler", "worker")
    address = str(look_until(dask, "scheduler", "address")["address"])
    assert dask.look("it", 0)["worker"]["address"] is None  # it does not know the scheduler yet
    dask.connect("it", address)
    assert look_until(dask, "worker", "address")["address"] != address
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("dask-*")} == {0o700}
    pids = [facts["pid"] for facts in dask.look("it", 0).values()]
    assert {os.getpgid(pid) for pid in pids} == {os.getpgid(0)}  # they end with the engine's process group
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # so neither ends just because the other does
    assert dask.stop("it", 0.0) == ["scheduler", "worker"]
    wait_gone(*pids, timeout=0)
    assert dask.stop("it", 0.0) == []


@pytest.mark.slow
def test_the_last_words_of_a_process_that_cannot_start(dask: DaskProcesses) -> None:
    begin(dask, "scheduler", hosts=["203.0.113.1"])
    facts = look_until(dask, "scheduler", "exit_code")
    assert facts["exit_code"] == 1
    assert facts["last_words"].endswith("its server was reached: 203.0.113.1")
    assert dask.stop("it", 0.0) == []


def test_a_process_that_is_killed_while_it_starts(dask: DaskProcesses) -> None:
    begin(dask, "worker")
    os.kill(dask.look("it", 0)["worker"]["pid"], signal.SIGKILL)
    assert look_until(dask, "worker", "exit_code")["exit_code"] == -signal.SIGKILL
    dask.connect("it", "tls://127.0.0.1:1")  # without effect, and without an error


def test_a_python_that_is_gone(dask: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(FileNotFoundError):
        begin(dask, "scheduler")


def test_no_process_with_a_certificate_for_another_key(dask: DaskProcesses) -> None:
    dask.prepare("it", ["scheduler"])
    foreign = AUTHORITY.own_role("scheduler").certificate
    with pytest.raises(AuthenticationError):
        dask.start("it", {"scheduler": foreign.encode()}, AUTHORITY.certificate, SETTINGS)


def test_an_engine_that_has_forgotten_it(dask: DaskProcesses) -> None:
    with pytest.raises(ConfigurationError, match="no such Dask cluster"):
        dask.look("it", 0)


def test_a_node_without_dask(dask: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_processes, "installed", dict.fromkeys)
    assert dask.prepare("it", ["scheduler"]) == (None, {})
    assert dask.stop("it", 0) == []


def test_an_interrupt_loses_no_process_that_has_just_started(
    dask: DaskProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    with pytest.raises(KeyboardInterrupt):
        begin(dask, "scheduler", "worker")
    assert list(dask.look("it", 0)) == ["scheduler"]
    assert dask.stop("it", 0.0) == ["scheduler"]

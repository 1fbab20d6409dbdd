"""A single process of a Dask cluster: its address, its report, and its end."""

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pserver.services.dask_process import own_address, security_of
from srp_tools.certificates import NetworkAuthority
from srp_tools.tls import file_of
from tests.support.waiting import DEADLINE, wait_gone


def settings(role: str, folder: Path, **changes: Any) -> dict[str, Any]:
    identity = NetworkAuthority(bytes(16)).own_role(role)
    return {
        "role": role,
        "name": role,
        "hosts": ["127.0.0.1"],
        "identity": [identity.key, identity.certificate, identity.authority],
        "folder": str(folder),
        "path": sys.path,
        "threads": 1,
        "memory_limit": "auto",
        "grace": DEADLINE,
        "dashboard": False,
    } | changes


def run(*lines: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a process and write lines to its standard input; return it with the descriptor of its report."""
    report, its_report = os.pipe()
    errors = os.dup(2)
    process = subprocess.Popen(
        [sys.executable, "-m", "pserver.services.dask_process", str(its_report), str(errors)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(its_report, errors),
    )
    os.close(its_report)
    os.close(errors)
    assert process.stdin is not None
    process.stdin.write("".join(f"{line}\n" for line in lines).encode())
    process.stdin.flush()
    return process, report


def test_it_says_where_it_listens(tmp_path: Path) -> None:
    process, report = run(json.dumps(settings("scheduler", tmp_path, hosts=["203.0.113.1", "127.0.0.1"])))
    with process, os.fdopen(report) as said:
        assert json.loads(said.readline())["address"].startswith("tls://127.0.0.1:")
        assert said.read() == ""
        assert process.poll() is None
        process.kill()


PARENT = """
import subprocess, sys
command = [sys.executable, "-m", "pserver.services.dask_process", *sys.argv[1:3]]
child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[int(number) for number in sys.argv[1:3]])
child.stdin.write(sys.stdin.buffer.readline())
child.stdin.flush()
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.slow
def test_it_ends_with_its_parent_though_others_have_its_standard_input(tmp_path: Path) -> None:
    report, its_report = os.pipe()
    command = [sys.executable, "-c", PARENT, str(its_report), "2"]
    with (
        os.fdopen(report) as said,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[its_report]
        ) as parent,
    ):
        os.close(its_report)
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(json.dumps(settings("scheduler", tmp_path)).encode() + b"\n")
        parent.stdin.flush()
        pid = int(parent.stdout.readline())
        # Like a process that was forked from an engine.
        kept = os.open(f"/proc/{pid}/fd/0", os.O_WRONLY)
        assert said.readline()
        os.kill(pid, 0)
        parent.kill()
        wait_gone(pid)
        os.close(kept)


@pytest.mark.slow
@pytest.mark.parametrize("lines", [0, 1])
def test_it_does_nothing_if_the_engine_ends_before_it_said_all(tmp_path: Path, lines: int) -> None:
    process, report = run(*[json.dumps(settings("worker", tmp_path))][:lines])
    with process, os.fdopen(report) as said:
        assert process.communicate(timeout=DEADLINE)[1] == b""
        assert process.returncode == 0
        assert said.read() == ""


@pytest.mark.slow
def test_the_last_words_of_one_that_cannot_start(tmp_path: Path) -> None:
    process, report = run(json.dumps(settings("scheduler", tmp_path, hosts=["203.0.113.1"])))
    with process, os.fdopen(report) as said:
        assert process.stderr is not None
        last_words = process.stderr.read().decode()
        assert last_words.splitlines()[-1].endswith(
            "this machine has none of the addresses at which its server was reached: 203.0.113.1"
        )
        assert (process.wait(DEADLINE), said.read()) == (1, "")


def test_an_address_of_this_machine() -> None:
    assert own_address(["203.0.113.1", "::1"]) == "::1"
    assert own_address(["127.0.0.1", "::1"]) == "127.0.0.1"


def test_only_encrypted_connections_of_the_newest_kind() -> None:
    identity = NetworkAuthority(bytes(16)).own_role("worker")
    with file_of((identity.certificate + identity.key).encode()) as path:
        made = security_of("worker", path, identity.authority)
        both = made.get_connection_args("worker"), made.get_listen_args("worker")
    for arguments in both:
        assert arguments["require_encryption"]
        assert arguments["ssl_context"].minimum_version is ssl.TLSVersion.TLSv1_3
        assert arguments["ssl_context"].verify_mode is ssl.CERT_REQUIRED

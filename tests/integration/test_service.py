"""A server under a service manager: its notifications, and the rights of sessions under each unit."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pconnect import pconnect, precv, reval
from pconnect.views.network_views import ClientNetwork
from pserver.systemd.unit import Place, account_unit
from tests.support.accounts import needs_root
from tests.support.own_accounts import (
    NUMBERS,
    in_own_accounts,
    make_users,
    passable_folder,
    password_of,
    run_in_own_accounts,
)
from tests.support.places import OPTIONS, use_private_places
from tests.support.servers import in_foreground, run_server
from tests.support.service_manager import Manager, Unit, manager
from tests.support.systemd_analyze import needs_systemd
from tests.support.waiting import DEADLINE

pytestmark = pytest.mark.slow


def test_a_server_says_what_it_does_and_lives_while_engines_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with manager(tmp_path) as systemd:
        for name, value in systemd.environment(watchdog_seconds=0.5).items():
            monkeypatch.setenv(name, value)
        with run_server(tmp_path / "server") as server:
            systemd.await_word("READY")
            with server.connect(2) as net:
                while not systemd.await_word("STATUS")["STATUS"].startswith("1 session, 0 of "):
                    pass
                commands = [net[node].eval("while True: pass") for node in (1, 2)]
                for _ in range(5):
                    systemd.await_word("WATCHDOG")
                assert not any(command.done() for command in commands)
                for command in commands:
                    command.cancel()
                # Neither engines nor their starter can send messages to the service manager.
                reval("import os", net)
                found = net[1].eval("[name for name in os.environ if 'NOTIFY' in name or 'WATCHDOG' in name]")
                assert found.result() == []
        assert systemd.await_word("STOPPING")
        assert systemd.senders == {server.process.pid}


@dataclass
class Service:
    """A running service."""

    process: "subprocess.Popen[str]"
    systemd: Manager
    port: int
    journal: Path

    def connect(self, user: str) -> ClientNetwork:
        return pconnect(
            [f"127.0.0.1:{self.port}"],
            user=user,
            password=password_of(user),
            profile="",
            local_links=False,
            timeout=DEADLINE,
        )


def confined(unit: Unit, account: str | None) -> list[str]:
    """Return a command prefix that applies the unit's restrictions, as far as possible without systemd.

    It applies capabilities and writeable folders, but not the filter of system calls.
    """
    writes = " ".join(map(shlex.quote, [*unit.words("ReadWritePaths"), "/run"])) if account else ""
    only_there = (
        f'for p in {writes}; do mount --bind "$p" "$p"; done; mount -o remount,bind,ro /; ' if account else ""
    )
    kept = [each.removeprefix("CAP_").lower() for each in unit.words("CapabilityBoundingSet")]
    rights = [f"--bounding-set={','.join(['-all', *(f'+{each}' for each in kept)])}", "--no-new-privs"]
    if account:
        number = NUMBERS[account]
        rights += [f"--reuid={number}", f"--regid={number}", "--init-groups", "--inh-caps=-all"]
    return ["sh", "-euc", f'{only_there}exec "$@"', "sh", "setpriv", *rights]


@contextmanager
def started(folder: Path, unit: Unit, account: str | None) -> Iterator[Service]:
    """Start a service with its unit's command and the environment that systemd provides."""
    run_time = folder / "run"
    run_time.mkdir(mode=0o700)
    if account:
        os.chown(run_time, NUMBERS[account], NUMBERS[account])
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": str(run_time)}
    environment |= {"HOME": f"/home/{account}", "USER": account} if account else {}
    journal = folder / "journal"
    journal.touch()
    with manager(folder) as systemd:
        Path(systemd.address).chmod(0o666)
        facts = journal.stat()
        environment |= systemd.environment(watchdog_seconds=1.0)
        environment |= {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}
        command = in_own_accounts(folder, [*confined(unit, account), *unit.command])
        with in_foreground(command, journal, environment) as (process, port):
            yield Service(process, systemd, port, journal)


def unit_with(folder: Path, *words: str) -> Unit:
    """Return root's unit for a server on any port, written where the accounts exist."""
    users = make_users(folder, ["alice", "bob"])
    options = [f"--auth-file={users}", "--bind=127.0.0.1", "--cmd-port=0", "--data-port=0", "--print-unit"]
    code = "import sys; from pserver.cli import main; main(sys.argv[1:])"
    return Unit(run_in_own_accounts(code, "install-service", *options, *words))


def give(folder: Path, account: str) -> None:
    """Give the users' file to the account whose server reads it."""
    number = NUMBERS[account]
    for path in [folder / "server", *(folder / "server").iterdir()]:
        os.chown(path, number, number)


NEEDS = """
import ctypes, mmap, os, subprocess, sys, tempfile
from multiprocessing.shared_memory import SharedMemory
import numpy as np
found = {"numpy": float(np.linalg.inv(np.eye(50)).sum()), "user": os.getuid()}
memory = SharedMemory(create=True, size=100)
memory.buf[0] = 7
found["shared memory"] = memory.buf[0]
memory.close(), memory.unlink()
found["callback"] = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda n: n + 1)(4)
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
found["code in memory"] = len(code)
with tempfile.TemporaryDirectory(dir="/tmp") as place:
    open(place + "/a.c", "w").write("int main(void) { return 42; }")
    subprocess.run(["cc", "-o", place + "/a", place + "/a.c"], check=True)
    found["compiled"] = subprocess.run([place + "/a"]).returncode
# Check the permission without a write, which would leave files behind.
found["refused"] = [not os.access(path, os.W_OK) for path in ("/etc", "/usr", "/opt")]
found["home"] = os.access(os.path.expanduser("~"), os.W_OK)
status = open("/proc/self/status").read()
found["new privileges"] = "NoNewPrivs:\\t0" in status
found["capabilities"] = status.split("CapEff:\\t")[1].split()[0].strip("0")
psend(found, sockets[0])
"""


def findings(net: ClientNetwork) -> dict[str, Any]:
    reval(NEEDS, net[1])
    found: dict[str, Any] = precv(net[1], timeout=DEADLINE)
    return found


def expected(user: str) -> dict[str, Any]:
    return {
        "numpy": 50.0,
        "user": NUMBERS[user],
        "shared memory": 7,
        "callback": 5,
        "code in memory": 4096,
        "compiled": 42,
        "refused": [True, True, True],
        "home": True,
        "new privileges": False,
        "capabilities": "",
    }


def reload(service: Service) -> None:
    """Run the command of ``ExecReload=``."""
    service.process.send_signal(signal.SIGHUP)
    assert int(service.systemd.await_word("RELOADING")["MONOTONIC_USEC"]) > 0
    service.systemd.await_word("READY")


def stop(service: Service) -> None:
    service.process.send_signal(signal.SIGTERM)
    assert service.systemd.await_word("STOPPING")["STATUS"] == "SIGTERM"
    assert service.process.wait(DEADLINE) == 0


@needs_root
def test_under_the_unit_of_one_account_sessions_can_do_what_they_need() -> None:
    with passable_folder() as folder:
        unit = unit_with(folder, "--account=alice")
        give(folder, "alice")
        with started(folder, unit, "alice") as service:
            assert service.systemd.await_word("READY")
            with service.connect("bob") as net:
                assert findings(net) == expected("alice")
                command = net[1].eval("while True: pass")
                for _ in range(3):
                    service.systemd.await_word("WATCHDOG")
                assert not command.done()
                reload(service)
                command.cancel()
            stop(service)
        lines = service.journal.read_text().splitlines()
        assert any(line.startswith("<6>INFO audit login from 127.0.0.1 port ") for line in lines)
        assert not [line for line in lines if not re.match("<[0-7]>", line)]


@needs_root
def test_under_the_unit_with_accounts_sessions_can_do_what_they_need() -> None:
    with passable_folder() as folder:
        unit = unit_with(folder, f"--spool-dir={folder / 'spool'}")
        with started(folder, unit, None) as service:
            assert service.systemd.await_word("READY")
            for user in ("alice", "bob"):
                with service.connect(user) as net:
                    assert findings(net) == expected(user)
            stop(service)
        lines = service.journal.read_text().splitlines()
        assert sum(line.startswith("<6>INFO audit session-end from ") for line in lines) == 2


def allowed_calls(name: str) -> set[str]:
    """Return the system calls of a group, including nested groups."""
    command = ["systemd-analyze", "--no-pager", "syscall-filter", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    lines = [line.strip() for line in done.stdout.splitlines()[1:]]
    words = {line for line in lines if line and not line.startswith("#")}
    groups = {word for word in words if word.startswith("@")}
    return (words - groups).union(*map(allowed_calls, groups))


@needs_systemd
@pytest.mark.skipif(shutil.which("strace") is None and not os.environ.get("CI"), reason="needs strace")
def test_the_unit_of_one_account_allows_all_system_calls_that_sessions_need(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    trace = ["strace", "-f", "-c", "-o", str(counts)]
    with (
        run_server(tmp_path / "server", "--allow-root", wrapped=lambda command: [*trace, *command]) as server,
        server.connect(2) as net,
    ):
        assert findings(net)["compiled"] == 42
        assert net.submit(pow, 2, 5).result() == 32
        assert net[1].run(["sh", "-c", "ls / | sort -n | wc -l"]).returncode == 0
    table = [line.split() for line in counts.read_text().splitlines()]
    used = {words[-1] for words in table if words and words[0].replace(".", "").isdigit()} - {"total"}
    assert {"openat", "clone3", "connect"} & used
    account = account_unit("x", ["/bin/true"], (0, 0), Place("daemon", Path("/var/lib/x")))
    allowed = set[str]().union(*(allowed_calls(group) for group in Unit(account).words("SystemCallFilter")))
    assert len(allowed) > 200
    assert used - allowed == set()


@pytest.mark.parametrize("has_file", [True, False])
def test_a_log_for_programs_has_nothing_else_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_file: bool
) -> None:
    use_private_places(tmp_path, monkeypatch)
    log = tmp_path / "log"
    start = [sys.executable, "-m", "pserver", "start", *OPTIONS, "--no-tls", "--log-format=json"]
    if has_file:
        subprocess.run([*start, f"--log-file={log}"], check=True, timeout=DEADLINE)
        subprocess.run([*start[:3], "stop"], check=True, timeout=DEADLINE)
    else:
        with manager(tmp_path) as systemd, log.open("w") as stream:
            process = subprocess.Popen(
                [*start, "--foreground"], stdout=stream, stderr=stream, env=os.environ | systemd.environment()
            )
            systemd.await_word("READY")
            process.terminate()
            assert process.wait(DEADLINE) == 0
    messages = [json.loads(line)["message"] for line in log.read_text().splitlines()]
    assert "is ready on" in messages[0] and messages[-1].endswith("stops: SIGTERM")
    assert has_file or "without TLS there is no encryption" in messages[1]

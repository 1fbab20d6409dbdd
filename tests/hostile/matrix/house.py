"""A server with its own account and its own small disks, so tests can count everything that it leaves behind."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srp_tools.credentials import Credentials
from srp_tools.private_files import server_file
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.waiting import DEADLINE, wait_until

#: The disks, by contents: run-time folder and log, folders of sessions, detached jobs, files of the client.
DISKS = {"run": "1m", "tmp": "24m", "spool": "4m", "client": "24m"}
# They are mounted for this process and others that enter its namespace, and vanish with the last of them.
_MOUNT = """
set -e
while [ $# -gt 0 ]; do mkdir -p "$1"; mount -t tmpfs -o "size=$2,mode=0700,uid=$3,gid=$3" tmpfs "$1"; shift 3; done
echo ready
exec sleep infinity
"""


@dataclass(frozen=True)
class Address:
    """A client's way in: into the namespace of the disks, and to the servers."""

    namespace: int  #: the process whose mounts it sees
    account: int
    folder: Path  #: the client's disk
    signals: Path  #: a folder in which it can leave signals for jobs
    user: str
    password: str
    hosts: tuple[str, ...]


class House:
    """The server. `account`: the account of all its processes; the next number is for clients."""

    def __init__(self, folder: Path, account: int, credentials: Credentials) -> None:
        self.folder = folder
        self.account = account
        self.credentials = credentials
        self.status: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        self._name = f"matrix-{secrets.token_hex(4)}"
        VerifierFile(server_file(folder / "users")).add(make_verifier(credentials, 2048))
        for path in (folder / "users", *(folder / "users").iterdir()):
            os.chown(path, account, account)
        (folder / "signals").mkdir()
        os.chown(folder / "signals", account + 1, account + 1)
        words = [
            word
            for name, size in DISKS.items()
            for word in (str(folder / name), size, str(account + (name == "client")))
        ]
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _MOUNT, "mount", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"

    def disk(self, name: str) -> Path:
        """Return the path of a disk from outside its namespace."""
        return Path(f"/proc/{self._holder.pid}/root{self.folder / name}")

    def address(self, *more: str) -> Address:
        """Return the way in for a client that connects here and to some further hosts."""
        user, password = self.credentials.user, self.credentials.password
        hosts = (f"127.0.0.1:{self.status['cmd_port']}", *more)
        client, signals = self.folder / "client", self.folder / "signals"
        return Address(self._holder.pid, self.account + 1, client, signals, user, password, hosts)

    def start(self) -> None:
        """Start the server; reuse the ports of an earlier start."""
        ours, theirs = socket.socketpair()
        ports = [self.status.get(f"{port}_port", 0) for port in ("cmd", "data")]
        arguments = [
            "start", "--foreground", "--lifeline", f"--parent-fd={theirs.fileno()}", "--bind=127.0.0.1",
            f"--cmd-port={ports[0]}", f"--data-port={ports[1]}", f"--name={self._name}", "--slots=6",
            f"--log-file={self.folder / 'run' / 'log'}", f"--auth-file={server_file(self.folder / 'users')}",
            f"--spool-dir={self.folder / 'spool'}",
        ]  # fmt: skip
        account = str(self.account)
        # The interpreter may be in a folder that only root can read.
        enter = [
            "nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "setpriv", "--reuid", account, "--regid", account,
            "--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
        ]  # fmt: skip
        places = {"PSERVER_RUNTIME_DIR": "run", "TMPDIR": "tmp", "HOME": "tmp"}
        self.process = subprocess.Popen(
            [*enter, sys.executable, "-m", "pserver", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            env=os.environ
            | {variable: str(self.folder / name) for variable, name in places.items()}
            | {"USER": "matrix", "LOGNAME": "matrix"},
        )
        theirs.close()
        if self._lifeline is not None:
            self._lifeline.close()
        self._lifeline = ours
        ours.settimeout(DEADLINE)
        answer = json.loads(ours.makefile("rb").readline() or b"{}")
        assert "ready" in answer, f"{answer} {self.log()[-2000:]}"
        self.status = answer["ready"]

    def log(self) -> str:
        """Return the server's log."""
        with contextlib.suppress(FileNotFoundError):
            return (self.disk("run") / "log").read_text()
        return ""

    def sessions(self) -> list[dict[str, Any]]:
        """Return the sessions in the status."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            path = self.disk("run") / "pserver" / f"{self._name}.json"
            return list(json.loads(path.read_bytes())["sessions"])
        return []

    def processes(self) -> set[int]:
        """Return the numbers of all live processes of the server's account."""
        found = set()
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat().st_uid == self.account:
                        found.add(int(entry.name))
        return found

    def children(self, parent: int) -> list[int]:
        """Return the numbers of the children of a server process, oldest first."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                # proc_pid_stat(5): the fields after the name, which may contain anything.
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == parent:
                    found.append((int(fields[19]), pid))
        return [pid for _, pid in sorted(found)]

    def descendants(self, parent: int) -> set[int]:
        """Return the numbers of the descendants of a server process."""
        children = self.children(parent)
        return set(children).union(*map(self.descendants, children))

    def close(self) -> None:
        """Kill the server and all processes of its account."""
        if self._lifeline is not None:
            self._lifeline.close()
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(DEADLINE)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(DEADLINE)
        wait_until(lambda: not self.processes(), "the end of the server's processes")
        self._holder.kill()
        self._holder.communicate()


@contextlib.contextmanager
def open_house(credentials: Credentials) -> Iterator[House]:
    """Run a server whose account has no other processes."""
    # Not in the tests' folder: the paths of sockets would be too long.
    folder = Path(tempfile.mkdtemp(prefix="house-"))
    folder.chmod(0o755)
    try:
        house = House(folder, 200_000 + 2 * os.getpid(), credentials)
        with contextlib.closing(house):
            house.start()
            yield house
    finally:
        shutil.rmtree(folder)

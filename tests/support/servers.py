"""Real servers on the loopback address."""

import contextlib
import gc
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pconnect import Network, network_get_info, pconnect
from pconnect.link.host_names import Host
from pconnect.views.network_views import ClientNetwork
from pserver.ctl.asking import Question
from srp_tools.credentials import Credentials
from srp_tools.private_files import server_file
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.waiting import DEADLINE, wait_for_line


@dataclass
class Server:
    """A daemon that a test started."""

    process: subprocess.Popen[bytes]
    status: dict[str, Any]
    folder: Path
    use_tls: bool = True
    local_links: bool = True  # options of the networks that `connect` makes
    credentials: Credentials = field(default_factory=lambda: Credentials("nobody", "nothing"))

    @property
    def cmd_port(self) -> int:
        return int(self.status["cmd_port"])

    @property
    def data_port(self) -> int:
        return int(self.status["data_port"])

    @property
    def member_path(self) -> Path:
        """The file with which it announces itself, if it exists."""
        return Path(self.status["users"]["file"]).with_name("member")

    @property
    def host(self) -> str:
        if self.status["socket"]:
            return f"unix:{self.status['socket']}"
        address = str(self.status["bind"][0])
        return f"[{address}]:{self.cmd_port}" if ":" in address else f"{address}:{self.cmd_port}"

    def named(self) -> str | Host:
        """Return the host for `pconnect`; without TCP, with the name of nodes of `local_network`."""
        return Host("local", str(self.status["socket"]), 0) if self.status["socket"] else self.host

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def wait_for_log(self, part: str | re.Pattern[str], count: int = 1) -> None:
        """Wait until a part of a line was logged `count` times: clients may learn of an event before it is logged."""
        wait_for_line(self.folder / "log", part, count)

    def connect(self, n: int = 1, **options: Any) -> ClientNetwork:
        return connect([self] * n, **options)

    def status_now(self) -> dict[str, Any]:
        """Return the server's current status."""
        return self.ask("status")

    def ask(self, word: str, **more: object) -> dict[str, Any]:
        """Send the server a request through its control socket."""
        path = next(self.folder.rglob(f"{self.status['name']}.control"))
        return Question(path, {"do": word, **more}).answer(time.monotonic() + DEADLINE)

    def sessions(self, network: Network) -> list[int]:
        """Return the process numbers of a network's supervisors on this server."""
        sessions = self.status_now()["sessions"]
        return [session["pid"] for session in sessions if session["network"] == network.network_id]


def connect(servers: list[Server], **options: Any) -> ClientNetwork:
    """Connect one node on each server; all servers have the same users."""
    settings: dict[str, Any] = {
        "hosts": [server.named() for server in servers],
        "profile": "",
        "user": servers[0].credentials.user,
        "password": servers[0].credentials.password,
        "use_tls": servers[0].use_tls,
        "local_links": servers[0].local_links,
        "timeout": DEADLINE,
    }
    return pconnect(**settings | options)


def make_users(folder: Path) -> tuple[Credentials, Path]:
    """Make a file of verifiers with one user, whose password is random."""
    credentials = Credentials("alice", secrets.token_urlsafe(24))
    path = server_file(folder)
    VerifierFile(path).add(make_verifier(credentials, 2048))
    return credentials, path


@contextlib.contextmanager
def run_server(
    folder: Path,
    *options: str,
    bind: str | None = "127.0.0.1",
    users: tuple[Credentials, Path] | None = None,
    use_tls: bool = True,
    max_descriptors: int | None = None,
    python: str | Path = sys.executable,
    wrapped: Callable[[list[str]], list[str]] | None = None,
) -> Iterator[Server]:
    """Run a daemon that ends with the block; `wrapped`: changes its command, in which root is not allowed."""
    folder.mkdir(mode=0o700, exist_ok=True)
    credentials, auth_file = users or make_users(folder)
    ours, theirs = socket.socketpair()
    arguments = [
        "start", "--foreground", "--lifeline", f"--parent-fd={theirs.fileno()}",
        *([f"--bind={bind}"] if bind else []), "--cmd-port=0", "--data-port=0", f"--name=test-{secrets.token_hex(4)}",
        f"--log-file={folder / 'log'}",
        f"--auth-file={auth_file}" if use_tls else "--no-tls",
    ]  # fmt: skip
    arguments += [] if wrapped else ["--allow-root", "--shared-account"]
    limited = ["sh", "-c", f'ulimit -n {max_descriptors}; exec "$@"', "sh"] if max_descriptors else []
    command = [*limited, str(python), "-m", "pserver", *arguments, *options]
    process = subprocess.Popen(
        wrapped(command) if wrapped else command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
        start_new_session=True,
        env=os.environ | dict.fromkeys(("XDG_RUNTIME_DIR", "PSERVER_RUNTIME_DIR"), str(folder)),
    )
    theirs.close()
    try:
        with ours:
            ours.settimeout(DEADLINE)
            answer = json.loads(ours.makefile("rb").readline())
            assert "ready" in answer, answer
            yield Server(process, answer["ready"], folder, use_tls, credentials=credentials)
        process.wait(DEADLINE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def engine_pids(network: Network) -> dict[int, int]:
    """Return the process number of the engine of each node."""
    return {info["node"]: info["pid"] for info in network_get_info(network) if not info["local"]}


def bytes_to_workers(network: Network) -> int:
    """Return the amount of data sent to the live workers."""
    scheduler: Any = network.mesh.scheduler  # type: ignore[attr-defined]
    nodes = scheduler._manager.nodes.values() if scheduler else ()
    return sum(worker.connection.sent_bytes for node in nodes for worker in node.workers.values())


def open_files(pid: int | None = None) -> int:
    """Return the number of descriptors of a process, by default of this one."""
    gc.collect()  # descriptors of earlier tests must not close during the count
    return len(list(Path(f"/proc/{pid or 'self'}/fd").iterdir()))


@contextlib.contextmanager
def in_foreground(
    command: Sequence[str], errors: Path, env: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server's command; yield its process and its command port. `errors`: receives its standard error."""
    with errors.open("a") as stream:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stream, text=True
        )
    try:
        assert process.stdout is not None
        found = re.search(r"command port ([0-9]+)", process.stdout.readline())
        assert found, errors.read_text()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)

"""Let many clients work on two servers while they are killed, engines crash and strangers connect.

``python -m tests.hostile.soak --seconds 1800``. The clients check every result. At the end, nothing may be left: no
process, descriptor, folder or megabyte more than after a short first run.
"""

import argparse
import contextlib
import os
import random
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.hostile.soak_client import LEFT_BEHIND
from tests.support.servers import Server, make_users, open_files, run_server
from tests.support.waiting import wait_until

CLIENTS = 16
SETTLE = 60.0  # seconds in which everything that belongs to a dead client must have ended
MEGABYTE = 2**20
GROWTH = 2 * MEGABYTE  # bytes of memory for each lasting process: the allocator's own slack


@dataclass
class Client:
    """A running client."""

    process: subprocess.Popen[bytes]
    dies_at: float  # the time at which to kill it
    said: bytearray = field(default_factory=bytearray)


@dataclass
class Figures:
    """The results of a soak."""

    steps: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    strangers: int = 0
    wrong: list[str] = field(default_factory=list)


class Soak:
    """The clients, and the strangers who disturb them."""

    def __init__(self, servers: list[Server], seed: int) -> None:
        self.servers = servers
        self.chance = random.Random(seed)
        self.figures = Figures()
        self._selector = selectors.DefaultSelector()
        self._clients: list[Client] = []

    def run(self, seconds: float, clients: int) -> None:
        """Work for some seconds, then let the remaining clients finish."""
        end = time.monotonic() + seconds
        with self._strangers():
            while time.monotonic() < end and not self.figures.wrong:
                while len(self._clients) < clients:
                    self._start()
                self._turn()
        for client in self._clients:
            client.dies_at = float("inf")
        limit = time.monotonic() + 120
        while self._clients and time.monotonic() < limit:
            self._turn()
        for client in list(self._clients):
            self.figures.wrong.append(f"a client hangs after {client.said[-200:]!r}")
            client.process.kill()
            self._end(client)

    def _start(self) -> None:
        hosts = [server.host for server in self.chance.choices(self.servers, k=self.chance.randrange(1, 4))]
        credentials = self.servers[0].credentials
        seed, steps = self.chance.randrange(2**32), self.chance.randrange(1, 60)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.soak_client", str(seed), str(steps), *hosts],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PCONNECT_USER": credentials.user, "PCONNECT_PASSWORD": credentials.password},
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        # Half of them end by themselves.
        life = self.chance.expovariate(1 / 8) if self.chance.random() < 0.5 else float("inf")
        client = Client(process, time.monotonic() + life)
        self._clients.append(client)
        self._selector.register(process.stdout, selectors.EVENT_READ, client)

    def _turn(self) -> None:
        for key, _ in self._selector.select(0.1):
            data = os.read(key.fd, 2**16)
            key.data.said += data
            if not data:
                self._end(key.data)
        now = time.monotonic()
        for client in self._clients:
            if client.dies_at <= now:
                client.dies_at = float("inf")
                client.process.kill()

    def _end(self, client: Client) -> None:
        assert client.process.stdout is not None
        self._selector.unregister(client.process.stdout)
        client.process.stdout.close()
        self._clients.remove(client)
        status = client.process.wait()
        lines = client.said.decode(errors="replace").splitlines()
        if status == 0:
            self.figures.ended["closed"] += 1
        elif status == -9:
            self.figures.ended["killed"] += 1
        else:
            self.figures.wrong.append("\n".join(line[:200] for line in lines[-40:]))
        self.figures.steps.update(line for line in lines if line.isidentifier())

    # --- strangers ---

    @contextlib.contextmanager
    def _strangers(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._be_strangers, args=(stop, self.chance.randrange(2**32)))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _be_strangers(self, stop: threading.Event, seed: int) -> None:
        chance = random.Random(seed)
        held: list[socket.socket] = []
        while not stop.wait(0.02):
            server = chance.choice(self.servers)
            sock = socket.socket()
            sock.settimeout(1.0)
            with contextlib.suppress(OSError):
                sock.bind((f"127.0.0.{chance.randrange(2, 250)}", 0))
                sock.connect(("127.0.0.1", chance.choice([server.cmd_port, server.data_port])))
                sock.sendall(
                    chance.choice([b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"PSRV", chance.randbytes(60)])
                )
            self.figures.strangers += 1
            held.append(sock)
            if len(held) > 100:
                held.pop(chance.randrange(100)).close()
        for sock in held:
            sock.close()


@dataclass(frozen=True)
class Remains:
    """A server's resources between two runs."""

    processes: tuple[int, ...]
    descriptors: tuple[int, ...]
    memory: tuple[int, ...]
    folders: tuple[str, ...]

    @classmethod
    def of(cls, server: Server) -> "Remains":
        """Return the current resources."""
        daemon = psutil.Process(server.process.pid)
        processes = [daemon, *sorted(daemon.children(recursive=True), key=lambda process: process.pid)]
        return cls(
            tuple(process.pid for process in processes),
            tuple(open_files(process.pid) for process in processes),
            tuple(process.memory_full_info().uss for process in processes),
            tuple(sorted(path.name for path in Path(tempfile.gettempdir()).glob("pserver-*"))),
        )

    def difference(self, later: "Remains") -> str:
        """Return the resources that were added later, or an empty text."""
        if later.processes != self.processes:
            return f"processes {self.processes} became {later.processes}"
        if later.descriptors != self.descriptors:
            return f"descriptors {self.descriptors} became {later.descriptors}"
        if later.folders != self.folders:
            return f"folders {self.folders} became {later.folders}"
        if any(after - before > GROWTH for before, after in zip(self.memory, later.memory, strict=True)):
            return f"memory {self.memory} became {later.memory}"
        return ""


def left_behind() -> list[int]:
    """Return the processes left behind by user code."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] == ["sleep", LEFT_BEHIND]
    ]


def soak(folder: Path, seconds: float, seed: int, clients: int = CLIENTS) -> Figures:
    """Run a soak on two servers and return its results; everything in `wrong` is a fault."""
    users = make_users(folder)
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(run_server(folder / name, "--slots=4", users=users)) for name in ("a", "b")
        ]
        warm_up = Soak(servers, seed)
        warm_up.run(min(10.0, seconds / 5), clients)
        if warm_up.figures.wrong:
            return warm_up.figures
        before = [settled(server, None) for server in servers]
        run = Soak(servers, seed + 1)
        run.run(seconds, clients)
        for server, remains in zip(servers, before, strict=True):
            difference = remains.difference(settled(server, remains))
            if difference:
                run.figures.wrong.append(f"server {server.status['name']}: {difference}")
        if processes := left_behind():
            run.figures.wrong.append(f"user code's processes {processes} are left")
    return run.figures


def settled(server: Server, before: Remains | None) -> Remains:
    """Return a server's resources once its sessions have ended and, if `before` is given, nothing was added to it."""
    status = next(server.folder.rglob(f"{server.status['name']}.json"))
    wait_until(lambda: b'"sessions": []' in status.read_bytes(), "the end of all sessions", SETTLE)
    if before is None:
        wait_until(lambda: not left_behind(), "the end of the processes that user code left behind", SETTLE)
        time.sleep(6.0)  # the server closes silent strangers after five
        return Remains.of(server)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not before.difference(Remains.of(server)), "everything to be as before", SETTLE)
    return Remains.of(server)


def main() -> None:
    """Run a soak from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--clients", type=int, default=CLIENTS)
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        figures = soak(Path(folder), options.seconds, options.seed, options.clients)
    print(f"steps {dict(figures.steps)}, clients {dict(figures.ended)}, strangers {figures.strangers}")
    for fault in figures.wrong:
        print(fault, file=sys.stderr)
    sys.exit(bool(figures.wrong))


if __name__ == "__main__":
    main()

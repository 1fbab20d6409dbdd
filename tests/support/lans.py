"""Machines behind a router: network namespaces on bridges, with nftables for port forwarding and firewalls."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import program
from tests.support.waiting import DEADLINE

_START = "import sys; from pserver.cli import main; sys.exit(main())"


@contextlib.contextmanager
def holder(command: Sequence[str]) -> Iterator[int]:
    """Hold namespaces with a process that reports when it has created them."""
    process = subprocess.Popen(
        [*command, "sh", "-c", "echo here; exec sleep 600"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stderr is not None
        if not process.stdout.readline():
            pytest.skip(f"the system permits no namespaces here: {process.stderr.read().strip()}")
        yield process.pid
    finally:
        process.kill()
        process.communicate()


class Lans:
    """Machines by name. `folder`: where servers keep their files."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        for name, package in {
            "ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux",
        }.items():  # fmt: skip
            program(name, package)
        self._stack = stack
        self._folder = folder
        self._pids: dict[str, int] = {}
        self._enter: list[str] = []
        is_root = os.geteuid() == 0
        hub = stack.enter_context(
            holder(["unshare", "--net", *([] if is_root else ["--user", "--map-root-user"])])
        )
        self._enter = [] if is_root else [f"--user=/proc/{hub}/ns/user", "--preserve-credentials"]
        self._pids["hub"] = hub

    def at(self, machine: str) -> list[str]:
        """Return the words that start a command on a machine."""
        return ["nsenter", f"--net=/proc/{self._pids[machine]}/ns/net", *self._enter]

    def run(self, machine: str, command: str, text: str | None = None) -> None:
        """Run a command on a machine."""
        done = subprocess.run(
            [*self.at(machine), *command.split()], input=text, capture_output=True, text=True,
            timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{machine}$ {command}: {done.stderr}"

    def lan(self, name: str) -> None:
        """Make a network for machines."""
        self.run("hub", f"ip link add {name} type bridge")
        self.run("hub", f"ip link set {name} up")

    def machine(self, name: str, *, gateway: str = "", **addresses: str) -> None:
        """Make a machine with an address (including its prefix) in each of some networks."""
        start = ["nsenter", *self._enter] if self._enter else []
        self._pids[name] = self._stack.enter_context(holder([*start, "unshare", "--net"]))
        self.run(name, "ip link set lo up")
        for lan, address in addresses.items():
            cable = f"{name}-{lan}"
            self.run("hub", f"ip link add {cable} type veth peer name {lan} netns {self._pids[name]}")
            self.run("hub", f"ip link set {cable} master {lan} up")
            self.run(name, f"ip addr add {address} dev {lan} nodad")
            self.run(name, f"ip link set {lan} up")
        if gateway:
            self.run(name, f"ip route add default via {gateway}")

    def nft(self, machine: str, rules: str) -> None:
        """Replace all rules of a machine."""
        self.run(machine, "nft -f -", f"flush ruleset\n{rules}")

    def serve(self, machine: str, auth_file: Path, *options: str) -> None:
        """Run a server on a machine until everything ends."""
        folder = self._folder / machine
        folder.mkdir(mode=0o700)
        process = subprocess.Popen(
            [*self.at(machine), sys.executable, "-c", _START, "start", "--foreground", "--allow-root",
             f"--name={machine}", f"--auth-file={auth_file}", f"--log-file={folder / 'log'}", "--slots=1", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PSERVER_RUNTIME_DIR": str(folder)},
        )  # fmt: skip
        self._stack.callback(_end, process)
        assert process.stdout is not None and "listens" in process.stdout.readline()

    def log_of(self, machine: str) -> str:
        """Return the log of a machine's server."""
        return (self._folder / machine / "log").read_text()

    def python(self, machine: str, source: str, *arguments: str) -> Any:
        """Run a script on a machine; return its last output line, which is JSON."""
        process = subprocess.Popen(
            [*self.at(machine), sys.executable, "-c", source, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            told, wrong = process.communicate(timeout=2 * DEADLINE)
        finally:
            _end(process)
        assert process.returncode == 0, wrong
        return json.loads(told.splitlines()[-1])

    def show(self, machine: str, module: str, *arguments: str) -> None:
        """Run a module on a machine and show its output."""
        subprocess.run([*self.at(machine), sys.executable, "-m", module, *arguments], check=True)


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.terminate()
        assert process.stdout is None or select.select([process.stdout], [], [], DEADLINE)
        process.communicate(timeout=DEADLINE)

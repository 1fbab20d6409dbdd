"""Machines that compile for a client: the client with a shadowed compiler, and servers that do not share its home."""

import contextlib
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.machines import Machine, run_machines
from tests.support.prun import SCRIPT

CLIENT = "laptop"
SERVERS = ("alpha", "beta", "gamma")
_PYTHON = f"{shlex.quote(sys.executable)} -P -m"
# All processes of this network namespace but the shell. Processes of other machines cannot be inspected.
_KILL_ALL = """\
for p in /proc/[0-9]*; do [ "$(readlink $p/ns/net)" != "$(readlink /proc/$$/ns/net)" ] || \
[ $p = /proc/$$ ] || kill -9 ${p#/proc/}; done 2>/dev/null; true"""


@contextlib.contextmanager
def compile_machines(folder: Path, programs: Sequence[str], slots: int = 2) -> Iterator[dict[str, Machine]]:
    """Run a client with stand-ins for these programs first on its PATH, and three servers that it connects to."""
    with run_machines(folder, [CLIENT, *SERVERS], share_homes=False) as machines:
        client = machines[CLIENT]
        client.run(f"{_PYTHON} srp_tools.cli --random --bits 2048")
        for name in SERVERS:
            start_server(client, machines[name], slots)
        client.run(f"export PCONNECT_HOSTS='{' '.join(SERVERS)}'")
        client.run(f'prun() {{ {shlex.quote(str(SCRIPT))} "$@"; }}')
        client.run(f'eval "$({_PYTHON} pconnect.shadow.cli on --export {" ".join(programs)})"')
        yield machines


def start_server(client: Machine, server: Machine, slots: int = 2) -> None:
    """Start a server on a machine for the client's user."""
    if not (server.home / ".config").exists():
        shutil.copytree(client.home / ".config/pserver/server", server.home / ".config/pserver/server")
    server.run(f"{_PYTHON} pserver start --slots {slots}")


def is_serving(server: Machine) -> bool:
    """Return whether a server is running on a machine."""
    return server.attempt(f"{_PYTHON} pserver status")[0] == 0


def end_processes(machine: Machine) -> None:
    """Kill all processes on a machine but its shell, with SIGKILL."""
    machine.run(_KILL_ALL)


def report(client: Machine) -> dict[str, int]:
    """Return the number of steps that ran in each place, from ``prun --report``."""
    counts: dict[str, int] = {}
    for line in client.run("prun --report").splitlines()[1:]:
        if found := re.match(r"\S+ +(\S+) +(\d+)", line):
            counts[found[1]] = counts.get(found[1], 0) + int(found[2])
    return counts

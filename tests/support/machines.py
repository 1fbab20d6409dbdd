"""Machines for tests: network namespaces with their own names, addresses, homes and user, joined by a bridge.

They share one process namespace and one mount namespace. Both end with their first process, and take all processes and
mounts with them. That process is a child of `unshare`, which the test ends.
"""

import contextlib
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.programs import program

_SPACES = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
# No user is root on the machines, so a server starts as it does for an ordinary user.
_AS_USER = "unshare --user --map-user=1000 --map-group=1000"
# Whether the kernel permits `_BUILD`. Some kernels need root's rights for it, and some containers forbid it.
_PROBE = f"""
mount -t tmpfs tmpfs /run && ip link add hub type bridge && ip link add one type veth peer name other &&
unshare --uts {_AS_USER} true
"""
# Arguments: the hosts file, then name, address, terminal and home of each machine.
_BUILD = f"""
set -e
mount -t tmpfs tmpfs /run
mount --bind "$1" /etc/hosts
ip link add hub type bridge
ip link set hub up
shift
while [ $# -gt 0 ]; do
    ip netns add "$1"
    ip link add "$1" type veth peer name eth0 netns "$1"
    ip link set "$1" master hub up
    ip -n "$1" link set lo up
    ip -n "$1" addr add "$2/24" dev eth0
    ip -n "$1" link set eth0 up
    HOME="$4" XDG_RUNTIME_DIR="$4/run" PSERVER_RUNTIME_DIR="$4/run" \\
    nsenter --net="/run/netns/$1" unshare --uts --mount sh -c '
        echo "$1" > /proc/sys/kernel/hostname
        cd "$HOME"
        [ ! -e passwd ] || mount --bind passwd /etc/passwd
        IFS=:
        for home in $hidden; do
            [ "$home" = "$HOME" ] || mount -t tmpfs tmpfs "$home"
        done
        unset IFS hidden
        echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
        exec env PS1= setsid --ctty {_AS_USER} bash --norc --noprofile --noediting +H +m
    ' sh "$1" <> "$3" >&0 2>&0 &
    shift 4
done
wait
"""
_DONE = re.compile(r"<done (\d+)>\n$")
DEADLINE = 120.0  # for one line on a machine: it may install packages on a busy processor


class Machine:
    """An ordinary user's shell on a machine: it runs lines in turn, as if they were typed at a terminal."""

    def __init__(self, name: str, home: Path, terminal: int) -> None:
        self.name = name
        self.home = home
        self._terminal = terminal

    def run(self, line: str, answers: Sequence[tuple[str, str]] = ()) -> str:
        """Run one line and return its output.

        Parameters
        ----------
        line
            Input for the shell, which keeps its directory and variables between lines.
        answers
            Pairs: when the output ends with the first, type the second.
        """
        status, shown = self.attempt(line, answers)
        assert status == 0, f"{self.name}$ {line}\nended with status {status}:\n{shown}"
        return shown

    def attempt(self, line: str, answers: Sequence[tuple[str, str]] = ()) -> tuple[int, str]:
        """Run one line; return its exit status and its output."""
        # The shell assembles the marker, so an echo of the typed line does not contain it. The marker is on the same
        # line because a password prompt discards earlier input.
        end = " " if line.endswith("&") else "; "
        os.write(self._terminal, f"{line}{end}printf '<%s %d>\\n' done $?\n".encode())
        shown = ""
        deadline = time.monotonic() + DEADLINE
        while not (found := _DONE.search(shown)):
            left = deadline - time.monotonic()
            assert left > 0, f"{self.name}$ {line}\nhas not ended; its output so far:\n{shown}"
            shown += self._read(left)
            for question, answer in answers:
                if shown.endswith(question):
                    os.write(self._terminal, answer.encode())
                    shown += "\n"
        return int(found[1]), shown[: found.start()]

    def _read(self, timeout: float) -> str:
        if not select.select([self._terminal], [], [], timeout)[0]:
            return ""
        return os.read(self._terminal, 65536).decode().replace("\r\n", "\n")


@contextlib.contextmanager
def run_machines(
    folder: Path, names: Sequence[str], variables: dict[str, str] | None = None, *, share_homes: bool = True
) -> Iterator[dict[str, Machine]]:
    """Run machines until the end of the block, which ends all their processes too.

    Parameters
    ----------
    folder
        Receives the home of each machine, by name, and a folder ``bin`` that is first on the path of all. A file
        ``passwd`` in a home is that machine's ``/etc/passwd``.
    names
        The machines' names, by which they find each other.
    variables
        Additional environment variables.
    share_homes
        Whether each machine sees the homes of the others, at the same paths as the test.
    """
    for name, package in {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}.items():
        program(name, package)
    spaces = [*_SPACES, *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    probe = subprocess.run(
        ["unshare", *spaces, "bash", "-c", _PROBE],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if probe.returncode:
        pytest.skip(f"the system permits no namespaces here: {probe.stderr.strip()}")

    addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
    (folder / "hosts").write_text("\n".join(lines) + "\n")
    (folder / "bin").mkdir()
    environment = {
        "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "USER": "alice", "LOGNAME": "alice", "LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1",
        "VIRTUAL_ENV_DISABLE_PROMPT": "1",  # a shell with this variable set shows the environment at each line
    } | (variables or {})  # fmt: skip
    with contextlib.ExitStack() as stack:
        machines, arguments = {}, [str(folder / "hosts")]
        for name, address in addresses.items():
            home = folder / name
            (home / "run").mkdir(parents=True, mode=0o700)
            ours, theirs = os.openpty()
            stack.callback(os.close, ours)
            stack.callback(os.close, theirs)
            machines[name] = Machine(name, home, ours)
            arguments += [name, address, os.ttyname(theirs), str(home)]
        if not share_homes:
            environment["hidden"] = ":".join(str(machine.home) for machine in machines.values())
        log = stack.enter_context((folder / "log").open("w+"))
        first = subprocess.Popen(
            ["unshare", *spaces, "bash", "-c", _BUILD, "build", *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
        )  # fmt: skip
        stack.callback(first.wait)
        stack.callback(first.kill)
        for machine in machines.values():
            machine.run("stty -echo")
        yield machines


def python_of_the_tests(folder: Path) -> None:
    """Make ``python3`` on the machines the interpreter that runs the tests."""
    path = folder / "bin" / "python3"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)

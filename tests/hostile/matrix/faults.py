"""The faults of running processes: each function causes one and returns a function that undoes it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.hostile.matrix.house import House
from tests.support.waiting import wait_until

#: Seconds for which a process stays stopped.
STOP_SECONDS = 3.0
#: The disk that each kind of process writes to.
_WRITES_TO = {
    "daemon": ["run"],
    "starter": ["run", "tmp"],
    "spawner": ["tmp"],
    "session": ["tmp", "spool", "run"],
    "engine": ["tmp"],
    "worker": ["tmp"],
    "client": ["client"],
}

Undo = Callable[[], None]


def kill(house: House, kind: str, pid: int) -> Undo:
    """Kill a process; a daemon is started again and takes over the existing sessions."""
    if kind != "daemon":
        os.kill(pid, signal.SIGKILL)
        return lambda: None
    assert house.process is not None
    networks = _networks(house)
    house.process.kill()
    house.process.wait()

    def undo() -> None:
        house.start()
        wait_until(lambda: _networks(house) == networks, "the sessions in the status of the new daemon")

    return undo


def _networks(house: House) -> set[str]:
    return {session["network"] for session in house.sessions()}


def stop(house: House, kind: str, pid: int) -> Undo:  # noqa: ARG001 - the same signature as all faults
    """Stop a process as Ctrl-Z does."""
    os.kill(pid, signal.SIGSTOP)

    def undo() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    return undo


def exhaust_descriptors(house: House, kind: str, pid: int) -> Undo:  # noqa: ARG001
    """Deny a process further descriptors."""
    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    free = next(number for number in range(len(taken) + 1) if number not in taken)
    return _limit(pid, "Max open files", "nofile", free)


def exhaust_processes(house: House, kind: str, pid: int) -> Undo:  # noqa: ARG001
    """Deny a process child processes and threads."""
    return _limit(pid, "Max processes", "nproc", 0)


def _limit(pid: int, title: str, option: str, limit: int) -> Undo:
    """Lower a soft limit of a running process."""
    limits = Path(f"/proc/{pid}/limits").read_text()
    before = next(line for line in limits.splitlines() if line.startswith(title))[len(title) :].split()[0]
    # This needs the same account, or a privilege that containers do not give.
    account = str(psutil.Process(pid).uids().real)
    become = ["setpriv", f"--reuid={account}", f"--regid={account}", "--clear-groups"]

    def set_limit(value: str) -> None:
        subprocess.run([*become, "prlimit", f"--pid={pid}", f"--{option}={value}:"], check=True)

    def undo() -> None:
        if psutil.pid_exists(pid):
            set_limit(before)

    set_limit(str(limit))
    return undo


def fill_disks(house: House, kind: str, pid: int) -> Undo:  # noqa: ARG001
    """Fill a process's disk to the last byte."""
    fillers = [house.disk(name) / "filler" for name in _WRITES_TO[kind]]
    for filler in fillers:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(2**16))

    def undo() -> None:
        for filler in fillers:
            filler.unlink()

    return undo


FAULTS: dict[str, Callable[[House, str, int], Undo]] = {
    "kill -9": kill,
    "SIGSTOP 3 s": stop,
    "EMFILE": exhaust_descriptors,
    "ENOSPC": fill_disks,
    "EAGAIN at fork": exhaust_processes,
}

"""Start an agent, unless one is running: take the lock, listen, report ``ready``, then load everything else.

The agent listens on a Unix socket that only its account can reach. A `prun` that finds no agent starts one, and waits
until it writes ``ready`` to standard output. If an agent is killed during a ``make``, many calls start one at the same
time. So this module imports little, and only the process that gets the lock continues.
"""

import fcntl
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pconnect.prun.fast_client import OUR_FAILURE, PrunError, agent_folder, agent_name, dial

#: An agent stops after this many seconds without a call. The variable ``PRUN_IDLE`` overrides it.
_IDLE_SECONDS = 900.0


def make_folder(environment: dict[bytes, bytes]) -> Path:
    """Create the folder for the sockets and return it; raise `PrunError` if other accounts can access it."""
    folder = Path(os.fsdecode(agent_folder(environment)))
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o077 or folder.is_symlink():
        raise PrunError(f"other users can access the folder {folder}; remove it, or set XDG_RUNTIME_DIR")
    return folder


def main() -> int:
    """Become the agent of the environment, unless there is one. Report as soon as an agent accepts calls."""
    os.umask(0o077)
    environment = dict(os.environb)
    try:
        folder, name = make_folder(environment), agent_name(environment)
        idle_seconds()
        with (folder / f"{name}.lock").open("ab") as lock:
            if not _lock(lock.fileno(), folder, name):
                _report_ready()  # the other agent is ready, or soon will be
                return 0
            _become_agent(folder, name, lambda: fcntl.flock(lock.fileno(), fcntl.LOCK_UN))
            return 0
    except (PrunError, OSError) as error:
        sys.stdout.write(f"{error}\n")
        return OUR_FAILURE


def _lock(descriptor: int, folder: Path, name: str) -> bool:
    """Take the lock; return whether it succeeded.

    It fails if another agent accepts calls. While another agent is starting or stopping, this function waits.
    """
    deadline = time.monotonic() + 10.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _can_be_called(folder, name) or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _can_be_called(folder: Path, name: str) -> bool:
    try:
        dial(os.fsencode(folder), name).close()
    except OSError:
        return False
    return True


def _become_agent(folder: Path, name: str, unlock: Callable[[], object]) -> None:
    path = folder / f"{name}.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    here = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    path.unlink(missing_ok=True)
    listener.bind(f"/proc/self/fd/{here}/{path.name}")  # addresses of Unix sockets must be short
    os.close(here)
    listener.listen(socket.SOMAXCONN)
    listener.setblocking(False)
    log_file = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each call needs about ten descriptors
    if os.fork():
        os._exit(0)  # our parent may become another program, which does not expect this child
    sys.setswitchinterval(0.0005)  # the two threads take turns several times for each program
    os.chdir("/")
    _report_ready()
    null = os.open(os.devnull, os.O_RDWR)
    for number, descriptor in enumerate((null, log_file, log_file)):
        os.dup2(descriptor, number)
    from pconnect.agent.agent import serve  # noqa: PLC0415 - callers may connect before this loads

    serve(folder, name, listener, idle_seconds(), unlock)


def idle_seconds() -> float:
    """Return the idle time in seconds after which the agent stops; raise `PrunError` if ``PRUN_IDLE`` is invalid."""
    given = os.environ.get("PRUN_IDLE") or str(_IDLE_SECONDS)
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise PrunError(f"PRUN_IDLE={given!r} is not a number of seconds, such as PRUN_IDLE=600")
    return seconds


def _report_ready() -> None:
    os.write(1, b"ready\n")


if __name__ == "__main__":
    sys.exit(main())

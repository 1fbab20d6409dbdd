"""The agent: the process that keeps one network for all calls of `prun` of one user.

It listens at a Unix socket that only its account can reach, and ends when nobody has called for a while. Whoever finds
none starts one, and waits until it says ``ready`` at its standard output. A lock makes sure that there is one. All is
done by one thread, with `asyncio`, beside the thread of the jobs; only what blocks, such as files on their way to a
server, has threads of its own.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import time
import warnings
from pathlib import Path

from pconnect.agent.callers import Caller
from pconnect.agent.calls import Call, end
from pconnect.agent.remote_run import ENDING
from pconnect.agent.requests import RequestError
from pconnect.agent.shared import Shared
from pconnect.agent.ssh_calls import SSH, SshCall
from pconnect.prun.fast_client import OUR_FAILURE, SSH_FAILURE, PrunError, agent_folder, agent_name, dial

log = logging.getLogger("pconnect.agent")

#: Seconds without a call after which an agent ends; ``PRUN_IDLE`` is another number.
_IDLE_SECONDS = 900.0
_LOOK_SECONDS = 1.0


class Agent:
    """What listens. `shared`: what calls share."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._tasks: set[asyncio.Task[None]] = set()
        self._called_at = time.monotonic()

    async def serve(self, listener: socket.socket, idle: float) -> None:
        """Serve calls until there were none for `idle` seconds, or until it is stopped."""
        shared = self._shared
        shared.loop.add_reader(listener, self._accept, listener)
        while not shared.is_stopped.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(shared.is_stopped.wait(), _LOOK_SECONDS)
            if self._tasks:
                self._called_at = time.monotonic()
            elif time.monotonic() - self._called_at > idle:
                break
            if time.monotonic() - self._called_at < 60:  # it is in use
                shared.held.look()
        shared.loop.remove_reader(listener)
        shared.socket_path.unlink(
            missing_ok=True
        )  # whoever calls now starts another, which waits for our end
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        shared.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock, _ = listener.accept()
            task = self._shared.loop.create_task(self._serve(Caller(self._shared.loop, sock)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, caller: Caller) -> None:
        """Serve one call; it ends with its caller, or by a signal while no program runs that could take it."""
        self._shared.calls += 1
        answer = asyncio.ensure_future(self._answer(caller))
        stopped_by: list[int] = []

        def stop(number: int) -> None:
            if number in ENDING:
                stopped_by.append(number)
                answer.cancel()

        caller.on_signal = stop
        caller.gone.add_done_callback(lambda _: answer.cancel())
        try:
            await caller.tell(*await answer)
        except asyncio.CancelledError:
            if stopped_by:
                await caller.tell(*end(128 + stopped_by[0]))
        finally:
            self._shared.calls -= 1
            caller.close()

    async def _answer(self, caller: Caller) -> tuple[bytes, bytes]:
        kind: type[Call] = Call
        try:
            request = await caller.request()
            if request.words[:1] == (SSH,):
                kind = SshCall
            return await kind(self._shared, caller, request).run()
        except (RequestError, TimeoutError) as error:
            return end(OUR_FAILURE, f"prun: {error}")
        except Exception as error:
            log.exception("a call has failed")
            status = SSH_FAILURE if kind is SshCall else OUR_FAILURE
            return end(status, f"prun: the agent has failed: {error!r}; its log has more")


def make_folder(environment: dict[bytes, bytes]) -> Path:
    """Make the folder of the sockets, and return it; raise `PrunError` if it is not ours alone."""
    folder = Path(os.fsdecode(agent_folder(environment)))
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o077 or folder.is_symlink():
        raise PrunError(f"the folder {folder} is not yours alone; remove it, or set XDG_RUNTIME_DIR")
    return folder


def main() -> int:
    """Be the agent of the environment, unless there is one; say so as soon as it can be called."""
    os.umask(0o077)
    environment = dict(os.environb)
    try:
        folder, name = make_folder(environment), agent_name(environment)
        idle_seconds()
        with (folder / f"{name}.lock").open("ab") as lock:
            if not _lock(lock.fileno(), folder, name):
                _say_ready()  # the other one is, or will be
                return 0
            return _be_agent(folder, name)
    except (PrunError, OSError) as error:
        sys.stdout.write(f"{error}\n")
        return OUR_FAILURE


def _lock(descriptor: int, folder: Path, name: str) -> bool:
    """Take the lock; return whether that was possible.

    It is not as long as another agent can be called. One that begins will be, and one that ends is waited for.
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


def _be_agent(folder: Path, name: str) -> int:
    path = folder / f"{name}.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    here = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    path.unlink(missing_ok=True)
    listener.bind(f"/proc/self/fd/{here}/{path.name}")  # which is short, wherever the folder is
    os.close(here)
    listener.listen(socket.SOMAXCONN)
    listener.setblocking(False)
    log_file = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    warnings.simplefilter("ignore")
    sys.setswitchinterval(0.0005)  # the two threads hand over to each other for each program
    os.chdir("/")
    _say_ready()
    null = os.open(os.devnull, os.O_RDWR)
    for number, descriptor in enumerate((null, log_file, log_file)):
        os.dup2(descriptor, number)
    asyncio.run(_serve(folder, name, listener))
    return 0


async def _serve(folder: Path, name: str, listener: socket.socket) -> None:
    shared = Shared(folder, name)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        shared.loop.add_signal_handler(number, shared.is_stopped.set)
    await Agent(shared).serve(listener, idle_seconds())


def idle_seconds() -> float:
    """Return after how many seconds without a call the agent ends; raise `PrunError` if ``PRUN_IDLE`` is no number."""
    given = os.environ.get("PRUN_IDLE") or str(_IDLE_SECONDS)
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise PrunError(f"PRUN_IDLE={given!r}: give seconds, as in PRUN_IDLE=600")
    return seconds


def _say_ready() -> None:
    os.write(1, b"ready\n")


if __name__ == "__main__":
    sys.exit(main())

"""The agent: the process that keeps one network for all `prun` calls of one user.

`__main__` starts it. It stops after some time without calls. One thread serves all calls with `asyncio`, next to the
thread of the jobs. Only blocking work, such as a file transfer, runs in other threads.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from pconnect.agent.callers import Caller
from pconnect.agent.calls import Call, end
from pconnect.agent.remote_run import ENDING
from pconnect.agent.requests import RequestError
from pconnect.agent.shared import Shared
from pconnect.agent.ssh_calls import SSH, SshCall
from pconnect.programs.streams import keep_freed_memory
from pconnect.prun.fast_client import OUR_FAILURE, SSH_FAILURE

log = logging.getLogger("pconnect.agent")

_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 0.1  # until the next attempt to accept a call, after running out of descriptors


class Agent:
    """The listener of the agent. `shared`: the state shared by all calls. `unlock`: lets another agent take our place.

    If its socket is removed, for instance by a clean-up of the folder, the agent can no longer be called. It then lets
    another agent take its place immediately, and stops when its current calls have ended.
    """

    def __init__(self, shared: Shared, listener: socket.socket, unlock: Callable[[], object]) -> None:
        self._shared = shared
        self._listener = listener
        self._unlock = unlock
        self._identity = _identity(shared.socket_path)
        self._has_left = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._called_at = time.monotonic()

    async def serve(self, idle: float) -> None:
        """Serve calls until there was none for `idle` seconds, or until the agent is stopped."""
        shared = self._shared
        self._listen()
        while not shared.is_stopped.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(shared.is_stopped.wait(), _LOOK_SECONDS)
            if self._tasks:
                self._called_at = time.monotonic()
            elif self._has_left or time.monotonic() - self._called_at > idle:
                break
            if time.monotonic() - self._called_at < 60:  # the agent is in use
                shared.held.look()
            if not self._has_left and _identity(shared.socket_path) != self._identity:
                log.warning("the socket was removed; another agent may now take the place of this one")
                self._leave()
        if not self._has_left:
            # A caller that comes now starts another agent, which waits until this one has stopped.
            shared.loop.remove_reader(self._listener)
            shared.socket_path.unlink(missing_ok=True)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        shared.close(is_alone=not self._has_left)

    def _leave(self) -> None:
        """Stop accepting calls, and let another agent take our place."""
        self._has_left = True
        self._shared.loop.remove_reader(self._listener)
        self._listener.close()
        self._unlock()

    def _accept(self) -> None:
        loop = self._shared.loop
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # we ran out of descriptors until other calls end
            log.warning("a call is delayed: %s", error.strerror)
            loop.remove_reader(self._listener)
            loop.call_later(_PAUSE_SECONDS, self._listen)
            return
        task = loop.create_task(self._serve(Caller(loop, sock)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _listen(self) -> None:
        if not (self._has_left or self._shared.is_stopped.is_set()):
            self._shared.loop.add_reader(self._listener, self._accept)

    async def _serve(self, caller: Caller) -> None:
        """Serve one call until it ends, its caller is gone, or a signal arrives while no program can receive it."""
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
            if answer.done() and not answer.cancelled():  # this call has just stopped the agent
                await caller.tell(*answer.result())
            elif stopped_by:
                await caller.tell(*end(128 + stopped_by[0]))
        finally:
            caller.close()

    async def _answer(self, caller: Caller) -> tuple[bytes, bytes]:
        kind: type[Call] = Call
        try:
            request = await caller.request()
            if request.words[:1] == (SSH,):
                kind = SshCall
            self._shared.calls += 1  # not earlier: some callers only check whether an agent is running
            try:
                return await kind(self._shared, caller, request).run()
            finally:
                self._shared.calls -= 1
        except (RequestError, TimeoutError) as error:
            return end(OUR_FAILURE, f"prun: {error}")
        except Exception as error:
            log.exception("a call failed")
            status = SSH_FAILURE if kind is SshCall else OUR_FAILURE
            return end(status, f"prun: the agent failed: {error!r}; see {self._shared.log_path}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and the inode of a file, ``None`` if it does not exist."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def serve(
    folder: Path, name: str, listener: socket.socket, idle: float, unlock: Callable[[], object]
) -> None:
    """Serve calls on a listening socket until there were none for `idle` seconds.

    `unlock`: lets another agent take our place.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    warnings.simplefilter("ignore")
    keep_freed_memory()
    asyncio.run(_serve(folder, name, listener, idle, unlock))


async def _serve(
    folder: Path, name: str, listener: socket.socket, idle: float, unlock: Callable[[], object]
) -> None:
    shared = Shared(folder, name)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        shared.loop.add_signal_handler(number, shared.is_stopped.set)
    await Agent(shared, listener, unlock).serve(idle)

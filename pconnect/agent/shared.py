"""The state that the calls of one agent share: the network, the rules, threads for blocking work, and counts."""

import asyncio
import contextlib
import os
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pconnect.agent.compiling import KnownCompilers
from pconnect.agent.held_network import Generation, HeldNetwork
from pconnect.agent.report import Report
from pconnect.prun.rules import Rules, read_rules, stamp_of

T = TypeVar("T")

# The limit on concurrent blocking work, such as running preprocessors and transferring files.
_THREADS = 64


class NoNetworkError(Exception):
    """There is no network. The text gives the reason."""


async def until_done(work: "asyncio.Future[T]", stop: Callable[[], object] = lambda: None) -> T:
    """Wait for some work and return its result. On cancellation, call `stop`, and wait until the work has ended."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop()
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):  # a second cancellation does not end the wait
                await asyncio.wait([work])
        raise


class Shared:
    """The shared state. Only the agent's thread may use it.

    `folder`: the folder of the socket. `name`: the start of the socket's name. `report`: counts of programs.
    `is_stopped`: set to stop the agent. `calls`: the number of unfinished calls.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.report = Report()
        self.is_stopped = asyncio.Event()
        self.held = HeldNetwork(self.loop.call_soon_threadsafe, self._hear)
        self.socket_path = folder / f"{name}.sock"
        self.log_path = folder / f"{name}.log"
        self.calls = 0
        #: The compilers of the nodes of each network.
        self.compilers: weakref.WeakKeyDictionary[Generation, KnownCompilers] = weakref.WeakKeyDictionary()
        self._offline_mark = folder / f"{name}.offline"
        self._pool = ThreadPoolExecutor(_THREADS, "prun")
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._rules: Rules | None = None
        self._has_changed = asyncio.Event()

    def rules(self) -> Rules:
        """Return the current rules of the file; raise `ConfigurationError` if the file is invalid."""
        if self._rules is None or self._rules.stamp != stamp_of(self._rules.path):
            self._rules = read_rules()
        return self._rules

    def gate(self, program: str, concurrency: int) -> "contextlib.AbstractAsyncContextManager[object]":
        """Return a semaphore that limits the number of running programs of a name; 0 means no limit."""
        if not concurrency:
            return contextlib.nullcontext()
        return self._gates.setdefault(f"{program} {concurrency}", asyncio.Semaphore(concurrency))

    async def work(self, function: Callable[[], T]) -> T:
        """Run a blocking function in a thread of the pool and return its result."""
        return await self.loop.run_in_executor(self._pool, function)

    async def work_to_end(self, function: Callable[[], T], stop: Callable[[], object]) -> T:
        """Do the same, but on cancellation, call `stop`, and wait until the function has ended or cannot start.

        So the function never runs concurrently with later steps. Its result or error is then discarded.
        """
        begun = self._pool.submit(function)

        def end() -> None:
            stop()
            begun.cancel()

        return await until_done(asyncio.wrap_future(begun), end)

    async def generation(self, patience: float | None = None) -> Generation:
        """Return the network; raise `NoNetworkError` if there is none.

        `patience`: seconds to wait for a connection attempt in progress. ``None`` waits until it ends; the attempt has
        its own time limit.
        """
        deadline = None if patience is None else self.loop.time() + patience
        while self.held.is_pending:
            self._has_changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._has_changed.wait()
            except TimeoutError:
                raise NoNetworkError(
                    f"timed out after {patience:g} s waiting for a server to answer"
                ) from None
        if self.held.current is None or not self.held.current.living:
            raise NoNetworkError(self.held.error or "no server can be reached")
        return self.held.current

    def close(self, *, is_alone: bool) -> None:
        """Leave the servers. Remove the socket and the offline mark, unless they already belong to another agent."""
        self.is_stopped.set()
        if is_alone:
            self.socket_path.unlink(missing_ok=True)
            self._offline_mark.unlink(missing_ok=True)
        self.held.close()

    def _hear(self) -> None:
        """React to a change of the network. Without a network, create the link that tells stand-ins so."""
        self._has_changed.set()
        if self.is_stopped.is_set():  # nobody would remove a mark created now
            return
        is_offline = self.held.current is None or not self.held.current.living
        with contextlib.suppress(OSError):
            if is_offline:
                self._offline_mark.unlink(missing_ok=True)  # left by a killed agent
                self._offline_mark.symlink_to(f"/proc/{os.getpid()}")
            else:
                self._offline_mark.unlink(missing_ok=True)

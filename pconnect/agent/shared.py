"""What the calls of one agent share: the network, the rules, threads for what blocks, and counts."""

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

# As many calls wait for what blocks at once: preprocessing for compilers, files on their way.
_THREADS = 64


class NoNetworkError(Exception):
    """There is no network; the text says why."""


async def until_done(work: "asyncio.Future[T]", stop: Callable[[], object] = lambda: None) -> T:
    """Return what comes of some work. When this is cancelled, call `stop`, and wait for the end of the work first."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop()
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):  # once more; it must still be waited for
                await asyncio.wait([work])
        raise


class Shared:
    """What calls share; all of it belongs to the agent's thread.

    `folder`: of the socket, whose name begins with `name`. `report`: what ran where. `is_stopped`: set when the agent
    is to end. `calls`: how many have not ended.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.report = Report()
        self.is_stopped = asyncio.Event()
        self.held = HeldNetwork(self.loop.call_soon_threadsafe, self._hear)
        self.socket_path = folder / f"{name}.sock"
        self.log_path = folder / f"{name}.log"
        self.calls = 0
        #: What the nodes of each network have said of their compilers.
        self.compilers: weakref.WeakKeyDictionary[Generation, KnownCompilers] = weakref.WeakKeyDictionary()
        self._offline_mark = folder / f"{name}.offline"
        self._pool = ThreadPoolExecutor(_THREADS, "prun")
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._rules: Rules | None = None
        self._has_changed = asyncio.Event()

    def rules(self) -> Rules:
        """Return the rules as the file has them now; raise `ConfigurationError` if it cannot be used."""
        if self._rules is None or self._rules.stamp != stamp_of(self._rules.path):
            self._rules = read_rules()
        return self._rules

    def gate(self, program: str, concurrency: int) -> "contextlib.AbstractAsyncContextManager[object]":
        """Return what lets so many programs of a name run at once; 0: any number."""
        if not concurrency:
            return contextlib.nullcontext()
        return self._gates.setdefault(f"{program} {concurrency}", asyncio.Semaphore(concurrency))

    async def work(self, function: Callable[[], T]) -> T:
        """Return what a function returns that blocks; it runs in a thread of its own."""
        return await self.loop.run_in_executor(self._pool, function)

    async def work_to_end(self, function: Callable[[], T], stop: Callable[[], object]) -> T:
        """Do the same, but when this is cancelled, call `stop`, and wait until the function has ended, or cannot begin.

        So nothing is done behind the back of what comes after it. What it returns or raises then is lost.
        """
        begun = self._pool.submit(function)

        def end() -> None:
            stop()
            begun.cancel()

        return await until_done(asyncio.wrap_future(begun), end)

    async def generation(self, patience: float | None = None) -> Generation:
        """Return the network; raise `NoNetworkError` if there can be none.

        `patience`: seconds to wait while it is being made; ``None``: as long as that takes, which has a limit.
        """
        deadline = None if patience is None else self.loop.time() + patience
        while self.held.is_pending:
            self._has_changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._has_changed.wait()
            except TimeoutError:
                raise NoNetworkError(f"no server has answered for {patience:g} s") from None
        if self.held.current is None or not self.held.current.living:
            raise NoNetworkError(self.held.error or "no server can be reached")
        return self.held.current

    def close(self, *, is_alone: bool) -> None:
        """Leave the servers, and remove what others find us by, unless that is another agent's already."""
        self.is_stopped.set()
        if is_alone:
            self.socket_path.unlink(missing_ok=True)
            self._offline_mark.unlink(missing_ok=True)
        self.held.close()

    def _hear(self) -> None:
        """Take that there is a network, or none; where there is none, a link says so to stand-ins."""
        self._has_changed.set()
        if self.is_stopped.is_set():  # a mark that was made now would stay
            return
        is_offline = self.held.current is None or not self.held.current.living
        with contextlib.suppress(OSError):
            if is_offline:
                self._offline_mark.unlink(missing_ok=True)  # of an agent that was killed
                self._offline_mark.symlink_to(f"/proc/{os.getpid()}")
            else:
                self._offline_mark.unlink(missing_ok=True)

"""Wait for commands and jobs inside an asyncio event loop, such as a notebook's.

While a task waits for a command, the asyncio loop watches the network's descriptors. There is no other thread: the
network is served in callbacks of the asyncio loop. The thread that manages jobs wakes the asyncio loop itself.
"""

import asyncio
import concurrent.futures
import contextlib
import os
from collections.abc import Iterator
from typing import Any, Protocol

from pconnect.loop.event_loop import EventLoop

# Seconds between two looks, each of which also starts to watch for room to send data that other calls have queued.
_TICK = 0.05
# The same if the asyncio loop cannot watch a selector.
_TICK_WITHOUT_WATCH = 0.01


class Waitable(Protocol):
    """One or more commands that `in_loop` can wait for."""

    def done(self) -> bool:
        """Serve the network, and return whether the command has ended."""

    def result(self) -> Any:
        """Return the result, or raise the error."""

    def cancel(self) -> bool:
        """Interrupt the command."""


async def in_loop(command: Waitable, event_loop: EventLoop) -> Any:
    """Return the result of a command. Other tasks run meanwhile.

    Raises
    ------
    asyncio.CancelledError
        The task was cancelled, and the command with it.
    Exception
        Any error of `Command.result`.
    """
    event = asyncio.Event()
    try:
        with _served(event_loop, event), _woken(event_loop, event):
            while not command.done():
                event.clear()
                await event.wait()
    except asyncio.CancelledError:
        command.cancel()
        raise
    return command.result()


async def future_in_loop(future: concurrent.futures.Future[Any]) -> Any:
    """Return the result of a future that another thread completes. Other tasks run meanwhile.

    Raises
    ------
    asyncio.CancelledError
        The task was cancelled, and the future with it.
    Exception
        Any error of its `result`. Unlike `asyncio.wrap_future`, this raises an error, not a cancellation of the task,
        if other code cancels the future.
    """
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def wake(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the asyncio loop was closed, which ends the wait
            loop.call_soon_threadsafe(event.set)

    try:
        if not future.done():
            future.add_done_callback(wake)
            await event.wait()
    except asyncio.CancelledError:
        future.cancel()
        raise
    return future.result()


@contextlib.contextmanager
def _served(event_loop: EventLoop, event: asyncio.Event) -> Iterator[None]:
    """Set `event` whenever there may be news."""
    loop = asyncio.get_running_loop()
    # Several tasks may wait, but a loop has only one reader per descriptor, so each task watches its own duplicate.
    watched = _watch(loop, event_loop, event)
    tick = _TICK_WITHOUT_WATCH if watched is None else _TICK

    timer: asyncio.TimerHandle

    def look_again() -> None:
        nonlocal timer
        event.set()
        timer = loop.call_later(tick, look_again)

    timer = loop.call_later(tick, look_again)
    try:
        yield
    finally:
        timer.cancel()
        if watched is not None:
            loop.remove_reader(watched)
            os.close(watched)


@contextlib.contextmanager
def _woken(event_loop: EventLoop, event: asyncio.Event) -> Iterator[None]:
    """Set `event` when another thread, which serves the network, has news."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the asyncio loop was closed, which ends the wait
            loop.call_soon_threadsafe(event.set)

    with event_loop.sigint_deferred:
        event_loop.turns.listen(wake)
    try:
        yield
    finally:
        with event_loop.sigint_deferred:
            event_loop.turns.unlisten(wake)


def _watch(loop: asyncio.AbstractEventLoop, event_loop: EventLoop, event: asyncio.Event) -> int | None:
    fileno = event_loop.fileno()
    if fileno is None:
        return None
    duplicate = os.dup(fileno)
    try:
        loop.add_reader(duplicate, event.set)
    except (NotImplementedError, OSError):  # Windows
        os.close(duplicate)
        return None
    return duplicate

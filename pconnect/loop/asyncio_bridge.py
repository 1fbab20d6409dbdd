"""Waiting for commands and jobs inside an event loop of asyncio, such as a notebook's.

While somebody waits for a command, the event loop watches the network's descriptors. Nothing runs in another thread:
the network is served in the loop's own callbacks. The thread that looks after jobs wakes the event loop itself.
"""

import asyncio
import concurrent.futures
import contextlib
import os
from collections.abc import Iterator
from typing import Any, Protocol

from pconnect.loop.event_loop import EventLoop

# What other calls have queued for sending begins to be watched at the next look; so often, in seconds, there is one.
_TICK = 0.05
# Where the event loop cannot watch a selector.
_TICK_WITHOUT_WATCH = 0.01


class Waitable(Protocol):
    """What `in_loop` waits for: a command or several."""

    def done(self) -> bool:
        """Return whether it has ended; serves the network."""

    def result(self) -> Any:
        """Return its result, or raise its error."""

    def cancel(self) -> bool:
        """Interrupt it."""


async def in_loop(command: Waitable, event_loop: EventLoop) -> Any:
    """Return the result of a command; others run in the event loop meanwhile.

    Raises
    ------
    asyncio.CancelledError
        The task was cancelled; so was the command.
    Exception
        What `Command.result` raises.
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
    """Return the result of a future that another thread ends; others run in the event loop meanwhile.

    Raises
    ------
    asyncio.CancelledError
        The task was cancelled; so was the future.
    Exception
        What its `result` raises. Unlike with `asyncio.wrap_future`, that somebody else cancels the future is an error,
        and does not look as if the task were cancelled.
    """
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def wake(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop was closed, and the wait with it
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
    """Have `event` set whenever there may be news."""
    loop = asyncio.get_running_loop()
    # Several tasks may wait, and a loop calls one reader for a descriptor: each watches a duplicate of its own.
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
    """Have `event` set also when another thread, which serves the network, has news."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the event loop was closed, and the wait with it
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

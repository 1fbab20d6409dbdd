"""Polls the source while any browser is watching, and sends the same changes to all of them.

One loop serves all browsers. A slow browser gets a new snapshot instead of the changes that it missed, so nothing piles
up. While no browser is watching, the source is not polled.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence

from pserver.page.changes import Changes
from pserver.page.documents import Report
from pserver.page.source import Source
from srp_tools.errors import ParallelError

log = logging.getLogger("pserver.page")

MOST_WATCHERS = 32
INTERVAL = 1.0  # seconds between two polls
_SHARE = 0.2  # largest share of time spent on polling
_MOST_QUEUED = 8
_HEARTBEAT = 15.0  # seconds after which a comment is sent, so that proxies keep the stream open
_FRESH = 1.0  # seconds for which requests for figures get the same report


class TooManyError(Exception):
    """Too many browsers are watching."""


class Watching:
    """The loop and the watching browsers; `source`: the source of reports."""

    def __init__(self, source: Source, interval: float = INTERVAL) -> None:
        self.source = source
        self._interval = interval
        self._watchers: set[asyncio.Queue[bytes | None]] = set()
        self._changes = Changes()
        self._is_filled = False
        self._task: asyncio.Task[None] | None = None
        self._newest: tuple[float, Sequence[Report]] = (-1.0, ())
        self._one_at_a_time = asyncio.Lock()

    async def reports(self, *, is_whole: bool = False) -> Sequence[Report]:
        """Return current reports, at most a moment old; `is_whole`: with complete timelines and samples."""
        async with self._one_at_a_time:
            at, found = self._newest
            if is_whole:
                return await self.source.reports({})
            if time.monotonic() - at >= _FRESH:
                # The figures need neither timelines nor samples.
                found = await self.source.reports({report.key: time.time() for report in found})
                self._newest = time.monotonic(), found
            return found

    async def stream(self) -> AsyncGenerator[bytes]:
        """Yield the messages for one browser, as server-sent events, until it disconnects.

        Raises `TooManyError` before the first event.
        """
        if len(self._watchers) >= MOST_WATCHERS:
            raise TooManyError
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_QUEUED)
        self._watchers.add(queue)
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._watch())
            if self._is_filled:
                yield self._snapshot()
            while True:
                try:
                    told = await asyncio.wait_for(queue.get(), _HEARTBEAT)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                yield told if told is not None else self._snapshot()
        finally:
            self._watchers.discard(queue)

    async def _watch(self) -> None:
        """Poll and send changes until no browser is watching."""
        while self._watchers:
            begin = time.monotonic()
            try:
                await self._look()
            except (ParallelError, OSError) as error:
                self._tell(event("trouble", {"error": str(error)}))
            except Exception as error:
                log.exception("an error in the page; it keeps running")
                self._tell(event("trouble", {"error": f"an error in the page: {type(error).__name__}"}))
            took = time.monotonic() - begin
            await asyncio.sleep(max(self._interval - took, took * (1 / _SHARE - 1)))
        # The next browser gets a fresh start: old entries would look like running work.
        self._changes, self._is_filled = Changes(), False

    async def _look(self) -> None:
        async with self._one_at_a_time:
            reports = await self.source.reports(self._changes.since)
            self._newest = time.monotonic(), reports
        changes = self._changes.take(reports)
        if self._is_filled:
            self._tell(event("changes", {"now": time.time(), **changes}))
        else:
            self._is_filled = True
            self._tell(self._snapshot())

    def _snapshot(self) -> bytes:
        about = {"now": time.time(), "can_stop": self.source.can_stop, "interval": self._interval}
        return event("snapshot", {**about, **self._changes.snapshot()})

    def _tell(self, told: bytes) -> None:
        for queue in self._watchers:
            try:
                queue.put_nowait(told)
            except asyncio.QueueFull:
                while not queue.empty():
                    queue.get_nowait()
                with contextlib.suppress(asyncio.QueueFull):
                    queue.put_nowait(None)  # tells the browser's stream to send a snapshot


def event(name: str, data: Mapping[str, object]) -> bytes:
    r"""Return a server-sent event.

    Examples
    --------
    >>> event("news", {"a": 1})
    b'event: news\ndata: {"a":1}\n\n'
    """
    body = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return f"event: {name}\ndata: {body}\n\n".encode()

"""Progress bars for long waits: how many nodes have ended, how many bytes have been transferred.

A caller of `EventLoop.run_until` can pass a function that returns a `ProgressBar`. The loop calls it when the wait has
taken a second, and draws the bar if there is a terminal (`terminal_bar`) or a notebook (`notebook_bar`). A short wait
costs nothing. The loop itself draws the bar; there is no thread.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from pconnect.link.connection import Connection
from pconnect.link.peer import Source
from pconnect.loop.notebook_bar import NotebookBar, shell_of_kernel
from pconnect.loop.progress import ProgressBar
from pconnect.loop.terminal_bar import TerminalBar, is_seen
from srp_tools.steps import remaining

log = logging.getLogger("pconnect")

# Smaller transfers end before anyone could read a progress bar.
LARGE_BYTES = 100_000_000
# Seconds between checks for something to show.
_STEP = 0.1
# Python's own waits have a maximum in seconds, so a wait without a limit is repeated.
_LONG = 3600.0

T = TypeVar("T")


#: Called when a wait has taken long; ``None`` if there is nothing to show yet.
ProgressBarMaker = Callable[[], ProgressBar | None]


@dataclass
class _Settings:
    on: bool = True
    after: float = 1.0


_settings = _Settings()


def progress_bars(on: bool = True, *, after: float = 1.0) -> None:
    """Switch progress bars on or off.

    They are on by default. They appear in a notebook, and where standard error is a terminal and the package tqdm is
    installed: during waits for several nodes, transfers of more than 100 MB, and file transfers.

    Parameters
    ----------
    on
        Whether to show progress bars.
    after
        Show a bar when a wait has taken this many seconds.

    Examples
    --------
    >>> from pconnect import progress_bars
    >>> progress_bars(False)
    >>> progress_bars(True, after=5)
    >>> progress_bars()
    """
    _settings.on, _settings.after = on, after


@contextlib.contextmanager
def bars_after(seconds: float | None) -> Iterator[None]:
    """Show bars for waits inside after `seconds`; negative shows none, ``None`` keeps the setting."""
    before = _settings.on, _settings.after
    if seconds is not None:
        _settings.on, _settings.after = _settings.on and seconds >= 0, max(0.0, seconds)
    try:
        yield
    finally:
        _settings.on, _settings.after = before


class Meter:
    """The bar of one wait, if it gets one. Close it when the wait is over."""

    def __init__(self, maker: ProgressBarMaker) -> None:
        self._maker = maker
        self._begin = time.monotonic()
        self._next_look = self._begin + _settings.after if _settings.on else math.inf
        self._bar: NotebookBar | TerminalBar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._guard(self._bar.close)
            self._bar = None

    @property
    def longest_sleep(self) -> float:
        """Seconds until the next look is needed."""
        return max(_STEP, self._next_look - time.monotonic())

    def look(self) -> None:
        """Update the bar if it is time."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _STEP
        if self._bar is None:
            self._guard(self._open)
        if self._bar is not None:
            self._next_look = now + self._bar.step
            self._guard(self._bar.draw)

    def wait(self, take: Callable[[float], T], deadline: float = math.inf) -> T:
        """Call ``take(seconds)`` until it succeeds, and return its result. It raises `TimeoutError` if it times out.

        Raises `TimeoutError` when the deadline has passed.
        """
        while True:
            self.look()
            left = remaining(deadline)
            try:
                return take(min(self.longest_sleep, _LONG if left is None else left))
            except TimeoutError:
                if left == 0:
                    raise

    def make_room(self) -> None:
        """Remove the bar until the next look, so that other output can be written."""
        if self._bar is not None:
            self._guard(self._bar.make_room)

    def _open(self) -> None:
        shell = shell_of_kernel()
        if shell is None and not is_seen():
            return
        progress = self._maker()
        if progress is None:
            return
        if shell is not None:
            self._bar = NotebookBar(shell, progress, time.monotonic() - self._begin)
            return
        try:
            self._bar = TerminalBar(progress)
        except ImportError:
            self._next_look = math.inf

    def _guard(self, step: Callable[[], None]) -> None:
        """Call a function of the bar. If it fails, switch off progress bars and continue the wait."""
        try:
            step()
        except Exception:
            log.exception("progress bars are switched off, because one could not be drawn")
            _settings.on, self._next_look = False, math.inf


def counting(what: str, commands: Sequence[Any]) -> ProgressBar | None:
    """Return the progress bar for several commands, or ``None`` for a single one."""
    if len(commands) < 2:
        return None
    return ProgressBar(what, len(commands), " nodes", lambda: sum(command.has_ended for command in commands))


def sending(connections: Sequence[Connection], total: int) -> ProgressBar | None:
    """Return the progress bar for sent data, or ``None`` if there is little."""
    if total < LARGE_BYTES:
        return None
    return ProgressBar(
        "sending", total, "B", lambda: total - sum(connection.unsent_bytes for connection in connections)
    )


def receiving(connections: Sequence[Source]) -> ProgressBar | None:
    """Return the progress bar for arriving messages, or ``None`` if they are small."""
    arriving = [(connection, size) for connection in connections if (size := connection.arriving_bytes[1])]
    total = sum(size for _, size in arriving)
    if total < LARGE_BYTES:
        return None

    def done() -> int:
        # If another message is arriving on a connection, the previous one is complete.
        return sum(here if of == size else size for c, size in arriving for here, of in [c.arriving_bytes])

    return ProgressBar("receiving", total, "B", done)

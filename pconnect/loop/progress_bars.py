"""Progress bars of long waits: how many nodes have ended, how many bytes have passed.

A caller of `EventLoop.run_until` can pass a function that returns a `ProgressBar`. The loop calls it once the wait has
taken a second, and draws the bar with tqdm if output goes to a terminal or a notebook. A short wait costs nothing. The
loop itself draws the bar; there is no thread.
"""

import contextlib
import functools
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from pconnect.link.connection import Connection
from pconnect.link.peer import Source
from srp_tools.packages import import_own
from srp_tools.printable import printable_name

log = logging.getLogger("pconnect")

# Smaller transfers are over before one has read how far they are.
LARGE_BYTES = 100_000_000
# So often, in seconds, a bar is brought up to date.
_STEP = 0.1


class ProgressBar(NamedTuple):
    """How far a wait is."""

    what: str  #: what is waited for, in a word or two
    total: int  #: how many, or how much, there will be
    unit: str  #: ``" nodes"``, or ``"B"`` for bytes
    done: Callable[[], int]  #: returns how many, or how much, there is already


#: Called once a wait has taken long; ``None`` if there is nothing to show yet.
ProgressBarMaker = Callable[[], ProgressBar | None]


@dataclass
class _Settings:
    on: bool = True
    after: float = 1.0


_settings = _Settings()
_bars: list[Any] = []  # those that are shown


def progress_bars(on: bool = True, *, after: float = 1.0) -> None:
    """Switch progress bars on or off.

    They are on at first, and appear where the package tqdm is installed and standard error is a terminal, or in a
    notebook: while several nodes are waited for, while more than 100 MB are on their way, and for files.

    Parameters
    ----------
    on
        Whether there are any.
    after
        Seconds that a wait takes before it gets one.

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
    """Let waits inside get a bar after so many seconds; negative: none; ``None``: as it is set."""
    before = _settings.on, _settings.after
    if seconds is not None:
        _settings.on, _settings.after = _settings.on and seconds >= 0, max(0.0, seconds)
    try:
        yield
    finally:
        _settings.on, _settings.after = before


def clear_bars() -> None:
    """Make room for something else that is written to the terminal; a bar is drawn again at its next look."""
    for bar in _bars:
        bar.clear()


class Meter:
    """The bar of one wait, if it gets one; to be closed when the wait is over."""

    def __init__(self, maker: ProgressBarMaker) -> None:
        self._maker = maker
        self._next_look = time.monotonic() + _settings.after if _settings.on else math.inf
        self._progress: ProgressBar | None = None
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._guard(self._finish)
            _bars.remove(self._bar)
            self._bar = None

    @property
    def longest_sleep(self) -> float:
        """For how many seconds no look is needed."""
        return max(_STEP, self._next_look - time.monotonic())

    def look(self) -> None:
        """Bring the bar up to date, if it is time."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _STEP
        if self._bar is None:
            self._progress = self._maker() if _is_seen() else None
            if self._progress is None:
                return
            self._guard(self._open)
        if self._bar is not None:
            self._guard(self._advance)

    def _open(self) -> None:
        kind, bar = _bar_kind(), self._progress
        if kind is None or bar is None:
            self._next_look = math.inf
            return
        is_bytes = bar.unit == "B"
        self._bar = kind(
            desc=printable_name(bar.what), total=bar.total, unit=bar.unit, unit_scale=is_bytes,
            unit_divisor=1000, file=sys.stderr, leave=False, dynamic_ncols=True,
        )  # fmt: skip
        _bars.append(self._bar)

    def _advance(self) -> None:
        assert self._progress is not None  # noqa: S101 - made before the bar
        self._bar.update(self._progress.done() - self._bar.n)

    def _finish(self) -> None:
        self._advance()
        self._bar.close()

    def _guard(self, step: Callable[[], None]) -> None:
        """Do something with the bar; if it cannot be drawn, there is none, and the wait goes on."""
        try:
            step()
        except Exception:
            log.exception("there are no progress bars any more, because one could not be drawn")
            _settings.on, self._next_look = False, math.inf


def counting(what: str, commands: Sequence[Any]) -> ProgressBar | None:
    """Return the bar for several commands that are waited for; of one there is nothing to count."""
    if len(commands) < 2:
        return None
    return ProgressBar(what, len(commands), " nodes", lambda: sum(command.has_ended for command in commands))


def sending(connections: Sequence[Connection], total: int) -> ProgressBar | None:
    """Return the bar for bytes that are sent, if they are many."""
    if total < LARGE_BYTES:
        return None
    return ProgressBar(
        "sending", total, "B", lambda: total - sum(connection.unsent_bytes for connection in connections)
    )


def receiving(connections: Sequence[Source]) -> ProgressBar | None:
    """Return the bar for the messages that are arriving, if they are large."""
    arriving = [(connection, size) for connection in connections if (size := connection.arriving_bytes[1])]
    total = sum(size for _, size in arriving)
    if total < LARGE_BYTES:
        return None

    def done() -> int:
        # What has arrived is none of these any more.
        return sum(here if of == size else size for c, size in arriving for here, of in [c.arriving_bytes])

    return ProgressBar("receiving", total, "B", done)


def _is_seen() -> bool:
    stream = sys.stderr
    if stream is None or stream.closed:
        return False
    return stream.isatty() or _in_kernel()


def _in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


@functools.cache
def _bar_kind() -> Any:
    """Return tqdm's class for here, without its thread; ``None`` if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it misses ipywidgets, and then draws with characters
            tqdm = import_own("tqdm.auto").tqdm
    except ImportError:
        return None
    return type("Bar", (tqdm,), {"monitor_interval": 0})

"""A progress bar in a terminal: a line on standard error, drawn by tqdm."""

import functools
import sys
import warnings
from typing import Any

from pconnect.loop.progress import ProgressBar
from srp_tools.packages import import_own
from srp_tools.printable import printable_name

_bars: list["TerminalBar"] = []  # the bars that are shown


class TerminalBar:
    """A line that is redrawn repeatedly. Raises `ImportError` if tqdm is not installed."""

    step = 0.1  #: seconds between updates

    def __init__(self, progress: ProgressBar) -> None:
        self._progress = progress
        self._bar = _kind()(
            desc=printable_name(progress.what), total=progress.total, unit=progress.unit,
            unit_scale=progress.unit == "B", unit_divisor=1000, initial=progress.done(), file=sys.stderr,
            leave=False, dynamic_ncols=True,
        )  # fmt: skip
        _bars.append(self)

    def draw(self) -> None:
        """Show the progress."""
        self._bar.update(self._progress.done() - self._bar.n)

    def make_room(self) -> None:
        """Clear the line for other output. The next update draws it again."""
        self._bar.clear()

    def close(self) -> None:
        """Remove the bar."""
        _bars.remove(self)
        self._bar.close()


def is_seen() -> bool:
    """Whether standard error is a terminal."""
    stream = sys.stderr
    return stream is not None and not stream.closed and stream.isatty()


def clear_bars() -> None:
    """Clear all bars for other output to the terminal."""
    for bar in _bars:
        bar.make_room()


@functools.cache
def _kind() -> Any:
    """Return tqdm's class without its monitor thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tqdm = import_own("tqdm").tqdm
    return type("Bar", (tqdm,), {"monitor_interval": 0})

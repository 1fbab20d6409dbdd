"""A progress bar at a terminal: a line on standard error, drawn by tqdm."""

import functools
import sys
import warnings
from typing import Any

from pconnect.loop.progress import ProgressBar
from srp_tools.packages import import_own
from srp_tools.printable import printable_name

_bars: list["TerminalBar"] = []  # those that are shown


class TerminalBar:
    """A line that is drawn again and again. Raises `ImportError` if tqdm is not installed."""

    step = 0.1  #: so often, in seconds, it is brought up to date

    def __init__(self, progress: ProgressBar) -> None:
        self._progress = progress
        self._bar = _kind()(
            desc=printable_name(progress.what), total=progress.total, unit=progress.unit,
            unit_scale=progress.unit == "B", unit_divisor=1000, initial=progress.done(), file=sys.stderr,
            leave=False, dynamic_ncols=True,
        )  # fmt: skip
        _bars.append(self)

    def draw(self) -> None:
        """Show how far it is."""
        self._bar.update(self._progress.done() - self._bar.n)

    def make_room(self) -> None:
        """Leave the line to something else that is written; it is drawn again at its next step."""
        self._bar.clear()

    def close(self) -> None:
        """Leave nothing behind."""
        _bars.remove(self)
        self._bar.close()


def is_seen() -> bool:
    """Whether somebody sees what is drawn."""
    stream = sys.stderr
    return stream is not None and not stream.closed and stream.isatty()


def clear_bars() -> None:
    """Make room for something else that is written to the terminal."""
    for bar in _bars:
        bar.make_room()


@functools.cache
def _kind() -> Any:
    """Return tqdm's class, without its thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tqdm = import_own("tqdm").tqdm
    return type("Bar", (tqdm,), {"monitor_interval": 0})

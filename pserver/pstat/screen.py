"""The output of the table: a terminal, where each update replaces the previous one, or a file or pipe."""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from pserver.pstat.table import Cell

_PAINT = {"bad": "\x1b[31m", "head": "\x1b[1m"}
_PLAIN = "\x1b[0m"
_CLEAR_BELOW = "\x1b[J"
_FILE_COLUMNS = 200  # width for a file or pipe: room for all columns


class Screen:
    """The output; `stream`: standard output by default."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.is_terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._has_colours = self.is_terminal and not os.environ.get("NO_COLOR")
        self._drawn = 0  # number of lines to overwrite

    @property
    def columns(self) -> int:
        """The number of characters in a line."""
        return shutil.get_terminal_size().columns if self.is_terminal else _FILE_COLUMNS

    def paint(self, cell: Cell) -> str:
        """Return the text of a cell with its colour."""
        code = _PAINT.get(cell.mark) if self._has_colours else None
        return f"{code}{cell.text}{_PLAIN}" if code and cell.text.strip() else cell.text

    def show(self, lines: Sequence[str], *, again: bool = False) -> None:
        """Write lines; `again`: replace the previous lines on a terminal, otherwise append."""
        if self.is_terminal and again:
            # Lines that have scrolled off the top of the screen cannot be overwritten.
            most = max(2, shutil.get_terminal_size().lines - 1)
            if len(lines) > most:
                lines = [*lines[: most - 1], f"... {len(lines) - most + 1} more lines"]
            back = f"\x1b[{self._drawn}F" if self._drawn else ""
            self._stream.write(f"{back}{_CLEAR_BELOW}" + "".join(f"{line}\n" for line in lines))
            self._drawn = len(lines)
        else:
            self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()

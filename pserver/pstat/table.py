"""The table of `pstat`: one line for each server, with as many columns as fit into the terminal.

The columns are those of PyCAM's window "Process Statistics", and some more. If not all fit, the least important ones
are left out; a name that is too long loses its middle.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pconnect.statistics.document import (
    average,
    count,
    ended,
    free_slots,
    load_of,
    number,
    part,
    session_count,
)
from pserver.ctl.sources import Answer
from pserver.statistics.in_words import size
from srp_tools.printable import printable_name

_LEAST_NAME = 12
_LEAST_STATE = 15  # "does not answer" always fits
_GAP = "  "
_CUT = "…"

Facts = Mapping[str, Any]


class Cell(NamedTuple):
    """The text of a cell; `mark`: how to highlight it."""

    text: str
    mark: str = ""  #: ``"bad"``, ``"head"``, or empty


class _Column(NamedTuple):
    heading: str
    rank: int  # columns with the highest rank are left out first
    what: str  # description for --help
    cell: Callable[["_Server"], Cell]


@dataclass(frozen=True)
class _Server:
    answer: Answer
    now: float

    def part(self, name: str) -> Facts:
        return part(self.answer.document or {}, name)

    def average(self, what: str) -> Cell:
        seconds = average(self.part("totals"), what)
        return Cell("" if seconds is None else duration(seconds))

    def count(self, how: str) -> Cell:
        total = count(self.part("totals"), how)
        return Cell(_text(total), "bad" if total else "")


def _ping(server: _Server) -> Cell:
    at = server.answer.answered_at
    return Cell("" if at is None else duration(max(0.0, server.now - at)))


def _state(server: _Server) -> Cell:
    if server.answer.document is None:
        return Cell(server.answer.error, "bad")
    words = part(server.part("server"), "admission").get("words")
    return Cell(words if isinstance(words, str) else "")


def _slots(server: _Server) -> Cell:
    slots, free = (server.answer.document or {}).get("slots"), free_slots(server.answer.document or {})
    return Cell(f"{free}/{len(slots)}" if isinstance(slots, list) else "")


def _waiting(server: _Server) -> Cell:
    return Cell(_text(number(server.part("queue"), "waiting")))


def _text(value: object) -> str:
    return "" if value is None else f"{value}"


def _done(server: _Server) -> Cell:
    return Cell(_text(ended(server.part("totals"))))


def _processing(server: _Server) -> Cell:
    seconds = number(server.part("totals"), "processing_seconds")
    return Cell("" if seconds is None else duration(seconds))


def _size(section: str, name: str) -> Callable[[_Server], Cell]:
    def cell(server: _Server) -> Cell:
        found = number(server.part(section), name)
        return Cell(size(None if found is None else int(found)))

    return cell


_COLUMNS = (
    _Column("PING AGE", 7, "time since the last answer of a silent server", _ping),
    _Column("DONE", 0, "finished jobs and programs, including failed ones", _done),
    _Column("TIME", 5, "their total run time", _processing),
    _Column("AVG", 1, "average run time", lambda server: server.average("processing")),
    _Column("MOVE", 6, "average transfer time", lambda server: server.average("transfer")),
    _Column("QUEUE", 9, "average time between arrival at a worker and start", lambda s: s.average("queue")),
    _Column("FAIL", 2, "how many ended with an error", lambda server: server.count("failed")),
    _Column("LOST", 2, "how many were lost with their worker", lambda server: server.count("lost")),
    _Column("LOAD", 3, "load average of one minute", lambda s: Cell(_text(load_of(s.part("machine"))))),
    _Column("MEM FREE", 4, "available memory", _size("machine", "memory_free")),
    _Column("DISK FREE", 8, "free space on the disk of the spool", _size("machine", "disk_free")),
    _Column("SLOTS", 0, "free and total slots", _slots),
    _Column("WAIT", 8, "slots that sessions wait for", _waiting),
    _Column("SESS", 3, "sessions", lambda s: Cell(_text(session_count(s.answer.document or {})))),
)  # fmt: skip

LEGEND = "; ".join(f"{column.heading}: {column.what}" for column in _COLUMNS)


def lines_of(answers: Sequence[Answer], width: int, now: float | None = None) -> list[list[Cell]]:
    """Return the lines of the table, each a list of padded cells that together fill `width` characters."""
    now = time.monotonic() if now is None else now
    servers = [_Server(answer, now) for answer in answers]
    names = [printable_name(answer.name) for answer in answers]
    states = [_state(server) for server in servers]
    columns = {
        column: [Cell(column.heading, "head"), *(column.cell(server) for server in servers)]
        for column in _COLUMNS
    }
    first = [Cell("NAME", "head"), *map(Cell, names)]
    last = [Cell("STATE", "head"), *(Cell(printable_name(cell.text), cell.mark) for cell in states)]
    while (
        columns
        and _width(first, _LEAST_NAME) + sum(_width(each) for each in columns.values()) + _last(last) > width
    ):
        del columns[max(columns, key=lambda column: column.rank)]
    taken = sum(_width(each) for each in columns.values()) + _last(last)
    room = max(_LEAST_NAME, min(_width(first) - len(_GAP), width - taken - len(_GAP)))
    grid = [[_padded(cell, room, to_right=False) for cell in first]]
    grid += [
        [_padded(cell, _width(cells) - len(_GAP), to_right=True) for cell in cells]
        for cells in columns.values()
    ]
    used = room + sum(_width(each) for each in columns.values()) + len(_GAP)
    grid.append([Cell(_cut(cell.text, max(0, width - used)), cell.mark) for cell in last])
    return [list(line) for line in zip(*grid, strict=True)]


def _width(cells: Sequence[Cell], most: int = 1000) -> int:
    return min(most, max(len(cell.text) for cell in cells)) + len(_GAP)


def _last(cells: Sequence[Cell]) -> int:
    """Return the width that the state needs; long messages may be cut, as this is the last column."""
    return min(_LEAST_STATE, max(len(cell.text) for cell in cells))


def _padded(cell: Cell, width: int, *, to_right: bool) -> Cell:
    text = _cut_middle(cell.text, width)
    return Cell(text.rjust(width) if to_right else text.ljust(width), cell.mark)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + _CUT[:width]


def _cut_middle(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return text[: width - 1 - end] + _CUT + text[len(text) - end :]


def joined(line: Sequence[Cell], paint: Callable[[Cell], str] = lambda cell: cell.text) -> str:
    """Return a line as text; `paint`: returns the text of a cell with its colour."""
    return _GAP.join(map(paint, line)).rstrip()


def summary(answers: Sequence[Answer]) -> str:
    """Return a summary of all servers in one line."""
    documents = [answer.document for answer in answers if answer.document is not None]
    lists = [slots for each in documents if isinstance(slots := each.get("slots"), list)]
    slots = [slot for each in lists for slot in each if isinstance(slot, dict)]
    busy = sum(slot.get("state") == "busy" for slot in slots)
    sessions = sum(session_count(each) or 0 for each in documents)
    silent = len(answers) - len(documents)
    counts = [
        _counted(len(answers), "server"),
        *([f"{silent} of them without an answer"] if silent else []),
        f"{busy} of {_counted(len(slots), 'slot')} busy",
        _counted(sessions, "session"),
    ]
    return ", ".join(counts)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def duration(seconds: float) -> str:
    """Return a duration in short notation.

    Examples
    --------
    >>> [duration(each) for each in (0, 0.0000042, 0.0123, 9.876, 75, 4000, 200000)]
    ['0 s', '4.2 us', '12.3 ms', '9.88 s', '1:15', '1:06:40', '2d 7h']
    """
    if seconds < 1e-9:
        return "0 s"
    for unit, factor in (("us", 1e6), ("ms", 1e3), ("s", 1.0)):
        if seconds * factor < (60 if unit == "s" else 999.5):
            return f"{seconds * factor:.3g} {unit}"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24}h"
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""Formatters for log records: text for people, JSON for programs, and no time in the systemd journal.

Each record is one line, whatever text from peers it contains. Only a traceback in the text format has more lines. They
are indented, so none of them looks like a record.
"""

import json
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType

from pserver.logbook.fields import shortened
from srp_tools.printable import printable_name

_MAX_CHARACTERS = 8000  # of a record with its traceback
# As in syslog(3). The journal removes the number from the front of a line (sd-daemon(3)).
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def make_formatter(form: str, *, journal: bool = False) -> logging.Formatter:
    """Return the formatter for `form`, ``text`` or ``json``; `journal`: for the systemd journal."""
    if form == "json":
        lines: logging.Formatter = JsonFormatter()
    else:
        lines = OneLineFormatter("%(levelname)s %(message)s" if journal else None)
    return JournalFormatter(lines) if journal else lines


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """Whether a descriptor writes to the journal, according to ``JOURNAL_STREAM`` (systemd.exec(5))."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        facts = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(facts.st_dev), str(facts.st_ino))


class OneLineFormatter(logging.Formatter):
    """Formats each record as one line, and its traceback as indented lines."""

    def __init__(self, form: str | None = None) -> None:
        super().__init__(form or "%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record, without a final newline."""
        return super().format(record)[:_MAX_CHARACTERS]

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in `logging`
        """Return the line of a record."""
        return printable_name(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802
        """Return the indented lines of a traceback."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """Return the indented lines of a stack."""
        return _indented(stack_info)


class JsonFormatter(logging.Formatter):
    """Formats each record as an object: ``time``, ``level``, ``message``, its fields, and ``traceback`` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object, on one line, in ASCII."""
        time = datetime.fromtimestamp(record.created).astimezone()
        entry: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": _text(record.getMessage()),
        }
        fields = getattr(record, "fields", {})
        entry |= {name: _text(value) if isinstance(value, str) else value for name, value in fields.items()}
        if record.exc_info:
            entry["traceback"] = _text(self.formatException(record.exc_info))
        return json.dumps(entry).replace("\x7f", "\\u007f")


class JournalFormatter(logging.Formatter):
    """Adds the priority in front of each line of another formatter."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG)
        return "\n".join(f"<{priority}>{line}" for line in self._lines.format(record).split("\n"))


def _text(text: str) -> str:
    """Return a text that every JSON reader accepts: escape lone surrogates, which are not characters."""
    return shortened(text, _MAX_CHARACTERS).encode(errors="backslashreplace").decode()


def _indented(text: str) -> str:
    return "\n".join("  " + printable_name(line) for line in text.split("\n"))

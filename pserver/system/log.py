"""The log of a server: one line for each event, from the daemon and all its other processes.

The log must never do harm. Whatever happens to its file, logging raises no error, prints nothing elsewhere and blocks
no process. It resumes when there is room again, and then reports how many lines are missing. A flood of events of one
kind, such as stray connections, cannot fill the disk: see `pserver.system.log_limit`.

`pserver.logbook.formats` defines the format of lines. `pserver.system.audit` writes the lines for other programs; these
appear at every level.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pserver.config.log_options import DEFAULT_FORM, LogForm
from pserver.logbook.formats import OneLineFormatter, is_journal, make_formatter
from pserver.system.log_file import LogFile, Rotation, StandardError
from pserver.system.log_limit import LogLimit, Rate

AUDIT = "pserver.audit"  #: the logger of audit lines

# This many lines are enough to recognise a port scan, or a client that retries in a loop.
_USUAL = Rate(burst=100, per_second=1)
# Each line says who did what. Under a flood of failed logins this is 60 MB in a day, and enough for fail2ban to see
# every persistent address; each kind has its own limit, so the flood does not hide successful logins.
_AUDIT = Rate(burst=1000, per_second=5)
# These lines are only on request, and then all of them matter; but a busy program must not fill a disk in an hour.
_TRACE = Rate(burst=10_000, per_second=200)


class Output(Protocol):
    """The destination of lines."""

    def write(self, data: bytes) -> None:
        """Write lines; raise `OSError` if that is impossible at the moment."""

    def close(self) -> None:
        """Close the destination."""


def set_up(
    path: Path | None,
    rotation: Rotation | None = None,
    *,
    form: LogForm = DEFAULT_FORM,
    at_once: bool = False,
) -> None:
    """Send the log of this process to a file or to standard error, in place of any earlier destination.

    `rotation`: for the daemon only. `at_once`: open the file now instead of with the first line, for a process that
    will lose the permission to open it. Standard error may be the journal's. Raises nothing if the file cannot be
    written.
    """
    take_down()
    formatter = make_formatter(form.format, journal=path is None and is_journal(2, os.environ))
    output = LogFile(path, rotation) if path else StandardError()
    if at_once:
        with contextlib.suppress(OSError):  # the first line tries again, and counts as missing if it fails
            output.open()
    logging.getLogger().addHandler(LogHandler(output, formatter=formatter))
    set_level(form.level)


def set_level(level: str) -> None:
    """Write lines of this level and above from now on; from libraries never below ``info``."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(max(number, logging.INFO))
    logging.getLogger("pserver").setLevel(number)
    logging.getLogger(AUDIT).setLevel(logging.INFO)


def level_now() -> str:
    """Return the level of the log, which may have changed since the start."""
    return logging.getLevelName(logging.getLogger("pserver").level).lower()


def take_down() -> None:
    """Stop logging: at the end of a process, and in one that is forked to run the user's code."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, LogHandler)]:
        root.removeHandler(handler)
        handler.close()


def why_unwritten() -> str:
    """Return why the last line could not be written; empty if it was written."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, LogHandler)]
    return next((handler.why for handler in handlers), "")


class LogHandler(logging.Handler):
    """Writes records to `output`; `clock` returns the time in seconds."""

    why: str = ""  #: why the last line could not be written; empty if it was

    def __init__(
        self,
        output: Output,
        clock: Callable[[], float] = time.monotonic,
        formatter: logging.Formatter | None = None,
    ) -> None:
        super().__init__()
        self.setFormatter(formatter or OneLineFormatter())
        self._output = output
        self._clock = clock
        self._limit = LogLimit()
        self._missing = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless the limit of its kind is reached."""
        now = self._clock()
        self._write_left_out(now)
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        rate = _AUDIT if record.name == AUDIT else _TRACE if record.levelno <= logging.DEBUG else _USUAL
        if self._limit.admits((record.levelno, template), rate, now):
            self._write(record)

    def close(self) -> None:
        """Report the records that were left out, and close the output."""
        self.acquire()
        try:
            self._write_left_out(self._clock(), at_once=True)
            self._output.close()
        finally:
            self.release()
        super().close()

    def _write_left_out(self, now: float, *, at_once: bool = False) -> None:
        for kind, count, seconds in self._limit.take_left_out(now, at_once=at_once):
            level, template = kind if isinstance(kind, tuple) else (logging.WARNING, "(of many kinds)")
            self._write(_record(level, "%d more like this in the last %.0f s: %s", count, seconds, template))

    def _write(self, record: logging.LogRecord) -> None:
        text = self._text(record)
        if self._missing:
            missing = "%d lines are missing here because they could not be written: %s"
            text = self._text(_record(logging.WARNING, missing, self._missing, self.why)) + text
        try:
            self._output.write(text.encode())
            self._missing, self.why = 0, ""
        except OSError as error:
            self._missing += 1
            self.why = error.strerror or str(error)

    def _text(self, record: logging.LogRecord) -> str:
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 - the arguments may be any objects, and logging must not fail
            broken = _record(
                record.levelno, "(%s in %s: %s)", record.msg, record.pathname, type(error).__name__
            )
            text = self.format(broken)
        return text + "\n"


def _record(level: int, template: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("pserver", level, __file__, 0, template, arguments, None)

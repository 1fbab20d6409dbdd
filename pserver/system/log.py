"""The log of a server: one line for each event, by the daemon and all its other processes.

A log is advice. Whatever happens to the place where it goes, it raises nothing, prints nothing elsewhere, waits for
nobody, and goes on when there is room again; then a line says how many are missing. A flood of one kind of event, such
as stray connections, cannot fill it: see `pserver.system.log_limit`.

`pserver.logbook.formats` has what a line looks like. `pserver.system.audit` writes those lines that other programs
read; they come at every level.
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

# A port scan, or a client that tries again and again, is seen as such in this many lines.
_USUAL = Rate(burst=100, per_second=1)
# Each says who did what. Under a flood of failed logins this is 60 MB in a day, and enough for fail2ban to see all
# addresses that go on; each kind counts for itself, so the flood hides no login.
_AUDIT = Rate(burst=1000, per_second=5)
# Who asks for these lines wants all of them; a program that submits jobs without end must not fill a disk in an hour.
_TRACE = Rate(burst=10_000, per_second=200)


class Output(Protocol):
    """Where lines go."""

    def write(self, data: bytes) -> None:
        """Write lines; raise `OSError` if they cannot be written now."""

    def close(self) -> None:
        """Close it."""


def set_up(
    path: Path | None,
    rotation: Rotation | None = None,
    *,
    form: LogForm = DEFAULT_FORM,
    at_once: bool = False,
) -> None:
    """Write what this process logs to a file, or to standard error; in place of what was set up before.

    `rotation`: for the daemon alone. `at_once`: the file is opened now, and not for the first line, when this process
    may not do it any more. Standard error may be the journal's. Raises nothing if the file cannot be written.
    """
    take_down()
    formatter = make_formatter(form.format, journal=path is None and is_journal(2, os.environ))
    output = LogFile(path, rotation) if path else StandardError()
    if at_once:
        with contextlib.suppress(OSError):  # the first line tries it again, and counts as missing
            output.open()
    logging.getLogger().addHandler(LogHandler(output, formatter=formatter))
    set_level(form.level)


def set_level(level: str) -> None:
    """Write lines of this level and above from now on; those of libraries only from ``info`` on."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(max(number, logging.INFO))
    logging.getLogger("pserver").setLevel(number)
    logging.getLogger(AUDIT).setLevel(logging.INFO)


def level_now() -> str:
    """Return the level of which lines are written, which may have been changed since the start."""
    return logging.getLevelName(logging.getLogger("pserver").level).lower()


def take_down() -> None:
    """Write no log any more: for the end of a process, and for one that is forked to run the user's code."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, LogHandler)]:
        root.removeHandler(handler)
        handler.close()


def why_unwritten() -> str:
    """Return why the last line could not be written; empty if it could."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, LogHandler)]
    return next((handler.why for handler in handlers), "")


class LogHandler(logging.Handler):
    """Writes records to `output`; `clock` says when it is, in seconds."""

    why: str = ""  #: the last line could not be written; empty if it could

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
        """Write a record, unless there are too many of its kind."""
        now = self._clock()
        self._write_left_out(now)
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        rate = _AUDIT if record.name == AUDIT else _TRACE if record.levelno <= logging.DEBUG else _USUAL
        if self._limit.admits((record.levelno, template), rate, now):
            self._write(record)

    def close(self) -> None:
        """Say what was left out, and close the output."""
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
            missing = "%d lines are missing here, they could not be written: %s"
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
        except Exception as error:  # noqa: BLE001 - the arguments may be any objects, and a log ends nothing
            broken = _record(
                record.levelno, "(%s in %s: %s)", record.msg, record.pathname, type(error).__name__
            )
            text = self.format(broken)
        return text + "\n"


def _record(level: int, template: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("pserver", level, __file__, 0, template, arguments, None)

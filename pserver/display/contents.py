"""The contents of warnings and log records for the client: plain values of limited size."""

import builtins
import linecache
import logging
import sys
from pathlib import Path
from typing import Any

# Keeps warnings and log records below 64 KiB: a warning has one long text, a log record has up to two.
_MAX_TEXT_BYTES = 24 * 2**10
#: Limit for names and short texts.
MAX_NAME_BYTES = 2**10


def warning_contents(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> dict[str, Any]:
    """Return the data that the client needs to issue a warning."""
    if line is None:
        line = linecache.getline(filename, lineno)
    return {
        "category": category.__name__,
        "bases": [
            kind.__name__ for kind in category.__mro__ if getattr(builtins, kind.__name__, None) is kind
        ],
        "message": cut(str(message)),
        "module": _module_of(filename)[:MAX_NAME_BYTES],
        "filename": cut(filename, MAX_NAME_BYTES),
        "lineno": int(lineno),
        "line": cut(line.strip(), MAX_NAME_BYTES),
    }


def _module_of(filename: str) -> str:
    """Return the name of the module in a file, which warning filters match."""
    if filename.startswith("<command "):
        return "__main__"
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == filename:
            return name
    return Path(filename).stem


def log_contents(record: logging.LogRecord) -> dict[str, Any]:
    """Return the data that the client needs to handle a log record."""
    trace = record.exc_text
    if record.exc_info and not trace:
        trace = logging.Formatter().formatException(record.exc_info)
    if record.stack_info:
        trace = f"{trace}\n{record.stack_info}" if trace else record.stack_info
    return {
        "name": cut(record.name, MAX_NAME_BYTES),
        "levelno": int(record.levelno),
        "message": cut(str(record.getMessage())),
        "created": float(record.created),
        "pathname": cut(record.pathname, MAX_NAME_BYTES),
        "lineno": int(record.lineno),
        "funcName": record.funcName and cut(record.funcName, MAX_NAME_BYTES),
        "process": record.process and int(record.process),
        "threadName": record.threadName and cut(record.threadName, MAX_NAME_BYTES),
        "exc_text": trace and cut(trace),
    }


def cut(text: str, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    """Return a text of at most `max_bytes` bytes; a longer one is cut, with a remark at its end."""
    text = str.__str__(text)  # a subclass of str could not be sent
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= max_bytes:
        return text
    mark = f" ... (cut from {len(data)} bytes)"
    return data[: max_bytes - len(mark)].decode("utf-8", "ignore") + mark

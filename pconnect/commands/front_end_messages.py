"""Displays, warnings and log records from engines, shown on the client as if they came from local code.

They are handled inside the loop of the network, in order with the printed output. The user's own code runs there: the
filters and handlers that they have installed. Its exceptions are kept from the loop: a warning that a filter turns into
an error becomes the failure of its command, and all other exceptions are printed.

The content is data. The category of a warning is looked up among Python's own, the logger is found by its name, and
displays pass through `pconnect.commands.html_sanitizer`, because a notebook runs the scripts that it displays.
"""

import builtins
import functools
import linecache
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, overload

from pconnect.commands.console import with_prefix
from pconnect.commands.html_sanitizer import as_text, make_safe
from pconnect.errors import ProtocolError
from srp_tools.packages import import_own
from srp_tools.printable import printable_name, printable_text

_WARNING_FIELDS = {
    "category": str, "bases": list, "message": str, "module": str, "filename": str, "lineno": int, "line": str,
}  # fmt: skip
_LOG_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str, "levelno": int, "message": str, "created": float, "pathname": str, "lineno": int,
    "funcName": (str, type(None)), "process": (int, type(None)), "threadName": (str, type(None)),
    "exc_text": (str, type(None)),
}  # fmt: skip
# All other texts are one line.
_LONG_TEXTS = {"message", "exc_text"}
_DISPLAY_FIELDS = {"data": dict, "metadata": dict}


class Display(NamedTuple):
    """A display of an engine."""

    node: int
    host: str
    number: int  #: of the command; 0 outside a command
    #: By MIME type, as in IPython; pictures are bytes. ``text/plain`` is always present.
    data: dict[str, Any]
    metadata: dict[str, Any]


class FrontEndMessages:
    """Handles the front-end messages of one node."""

    def __init__(self, node: int, host: str) -> None:
        self.node = node
        self.host = host

    def take(
        self, number: int, note: Any, sink: Callable[[Display], object], *, trusts_displays: bool = False
    ) -> Warning | None:
        """Handle a message.

        `note`: ``[kind, content]``, as received. `trusts_displays`: whether displays may run code in the
        notebook's page. Returns the warning if a filter has turned it into an error. Raises `ProtocolError` if the
        message is malformed; then it had no effect.
        """
        match note:
            case ["warning", content] if _has_form(content, _WARNING_FIELDS):
                return self._warn(_printable(content))
            case ["log", content] if _has_form(content, _LOG_FIELDS):
                self._guard(lambda: self._log(_printable(content)))
            case ["display", content] if _has_form(content, _DISPLAY_FIELDS) and _is_bundle(content["data"]):
                data, metadata = content["data"], content["metadata"]
                if not trusts_displays:
                    data, metadata = make_safe(data, metadata)
                display = Display(self.node, self.host, number, data, metadata)
                self._guard(lambda: sink(display))
            case _:
                raise ProtocolError("not the value of NOTE")
        return None

    def _guard(self, step: Callable[[], object]) -> None:
        """Run code that may be the user's; print its exceptions."""
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - the loop continues; its next sleep raises Ctrl-C anyway
            self.show_error(error)

    def show_error(self, error: BaseException) -> None:
        """Print an error that nothing else reports."""
        text = printable_text("".join(traceback.format_exception(error)))
        if sys.stderr is not None:
            sys.stderr.write(
                f"[{self.node} {self.host}] a message from this node caused this error here:\n{text}"
            )

    def _warn(self, content: dict[str, Any]) -> Warning | None:
        """Issue a warning; return it if a filter turns it into an error.

        It has the text and the module from the engine, so that filters can match them; the node is put before the
        file name. No such file exists here, so no local file is searched for the line.
        """
        filename = f"[{self.node} {self.host}] {content['filename']}"
        warning = _category(content["category"], tuple(content["bases"]))(content["message"])
        warning.node, warning.host = self.node, self.host  # type: ignore[attr-defined]
        line = _OneLine(content["lineno"], content["line"])
        linecache.cache[filename] = (len(content["line"]), None, line, filename)  # type: ignore[assignment]
        try:
            warnings.warn_explicit(
                warning, type(warning), filename, content["lineno"], content["module"], registry={}
            )
        except BaseException as error:  # noqa: BLE001 - as above
            if error is warning:
                return warning
            self.show_error(error)
        finally:
            linecache.cache.pop(filename, None)
        return None

    def _log(self, content: dict[str, Any]) -> None:
        """Handle a log record as if it came from local code; the node is put before its text."""
        logger = logging.getLogger(content["name"])
        if not logger.isEnabledFor(content["levelno"]):
            return
        record = logging.makeLogRecord(content)
        # `args` has the original text, for handlers that need it.
        record.msg, record.args = "[%d %s] %s", (self.node, self.host, content["message"])
        del record.message  # formatters set it
        record.levelname = logging.getLevelName(record.levelno)
        record.node, record.host = self.node, self.host
        record.filename = record.pathname.rpartition("/")[2]
        record.module = record.filename.removesuffix(".py")
        record.msecs = record.created % 1 * 1000
        logger.handle(record)


def show(display: Display) -> None:
    """Show a display of an engine: in the output of a notebook's cell, or as text."""
    prefix = f"[{display.node} {display.host}]"
    if not _in_ipython():
        sys.stdout.write(with_prefix(display.data["text/plain"].rstrip("\n") + "\n", f"{prefix} ", "\n"))
        sys.stdout.flush()
        return
    sys.stdout.write(prefix + "\n")
    import_own("IPython.display").display(as_text(display.data), raw=True, metadata=display.metadata)


def describe_warning(warning: Warning, source: str) -> dict[str, Any]:
    """Return the failure of a command whose warning a filter has turned into an error, in the form of an engine."""
    kind = type(warning)
    return {
        "type": kind.__name__,
        "bases": [base.__name__ for base in kind.__mro__ if getattr(builtins, base.__name__, None) is base],
        "message": str(warning),
        "traceback": f"{kind.__name__}: {warning}\n(a filter on the client turned this warning of the command into an "
        f"error; the command {source!r} continued)",
    }


def _in_ipython() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _printable(content: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a warning or log record with printable texts."""
    return {
        name: (printable_text if name in _LONG_TEXTS else printable_name)(field)
        if isinstance(field, str)
        else field
        for name, field in content.items()
    }


def _has_form(content: object, fields: dict[str, Any]) -> bool:
    return isinstance(content, dict) and all(
        name in content and isinstance(content[name], kind) for name, kind in fields.items()
    )


def _is_bundle(data: dict[Any, Any]) -> bool:
    return all(isinstance(mime_type, str) for mime_type in data) and isinstance(data.get("text/plain"), str)


def _category(name: str, bases: Sequence[object]) -> type[Warning]:
    """Return the class of a warning: Python's own, or a new one of that name derived from the nearest of Python's."""
    for base in bases:
        found = getattr(builtins, base, None) if isinstance(base, str) else None
        if isinstance(found, type) and issubclass(found, Warning):
            return (
                found if found.__name__ == name or not name.isidentifier() else _derive(name, found.__name__)
            )
    return UserWarning


@functools.lru_cache(maxsize=100)
def _derive(name: str, base: str) -> type[Warning]:
    return type(name, (getattr(builtins, base),), {"__module__": "engine"})


class _OneLine(Sequence[str]):
    """The lines of a file of which only one is known."""

    def __init__(self, lineno: int, line: str) -> None:
        self._lineno = lineno
        self._line = line

    def __len__(self) -> int:
        return max(0, min(self._lineno, sys.maxsize))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._line]
        return self._line if index == self._lineno - 1 else ""

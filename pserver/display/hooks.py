"""The hooks through which user code creates displays, warnings, log records and figures in an engine."""

import builtins
import logging
import os
import sys
import warnings
from typing import Any, TextIO

from pserver.display.contents import MAX_NAME_BYTES, log_contents, warning_contents
from pserver.display.mime_bundle import Bundle, bundle_size, make_bundle
from pserver.display.outbox import Outbox
from pserver.system.own_variables import set_variable

_MAX_DISPLAY_BYTES = 2**24


class Hooks:
    """The engine's replacements for Python's hooks for displays, warnings and log records.

    `max_message_bytes`: the size limit of messages to the client.
    """

    def __init__(self, outbox: Outbox, max_message_bytes: int) -> None:
        self._outbox = outbox
        # Half of the limit, because a message contains a little more than the data.
        self._max_display_bytes = min(_MAX_DISPLAY_BYTES, max_message_bytes // 2)
        self._show_in_child = warnings.showwarning

    def install(self, names: dict[str, Any]) -> None:
        """Install the hooks; `names` is the workspace."""
        names["display"] = vars(builtins)["display"] = self.display
        warnings.showwarning = self.show_warning
        # Not a handler of the root logger, with which `logging.basicConfig` would do nothing. This handler is used if
        # the user has configured none, and, unlike Python's own, it accepts every level that the loggers let through.
        logging.lastResort = LogForwarder(self._outbox)
        _choose_backend()

    def display(self, *objects: object) -> None:
        """Show objects on the client: in its notebook as pictures, tables and text, elsewhere as text.

        `objects`: matplotlib figures; objects with IPython's methods such as ``_repr_html_`` or ``_repr_png_``; any
        other object is shown by its ``repr``. If such a method fails, its traceback is printed.
        """
        for shown in objects:
            bundle = self._limit(make_bundle(shown))
            content = {"data": bundle.data, "metadata": bundle.metadata}
            if not self._outbox.put("display", content, bundle_size(bundle)):
                sys.stdout.write(f"{bundle.data['text/plain']}\n")

    def _limit(self, bundle: Bundle) -> Bundle:
        size = bundle_size(bundle)
        if size <= self._max_display_bytes:
            return bundle
        kinds = ", ".join(bundle.data)[:MAX_NAME_BYTES]
        text = f"<not shown: {size} bytes ({kinds}) exceed the limit of a display, {self._max_display_bytes} bytes>"
        return Bundle({"text/plain": text}, {})

    def show_warning(  # noqa: PLR0917 - Python's own signature
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Replace `warnings.showwarning`."""
        if file is None:
            content = warning_contents(message, category, filename, lineno, line)
            if self._outbox.put("warning", content, len(content["message"])):
                return
        self._show_in_child(message, category, filename, lineno, file, line)


class LogForwarder(logging.Handler):
    """Sends log records to the client."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; an error while formatting it is handled as usual in `logging`."""
        try:
            content = log_contents(record)
            size = len(content["message"]) + len(content["exc_text"] or "")
            if not self._outbox.put("log", content, size) and sys.stderr is not None:
                sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - formatting runs methods of the user's objects
            self.handleError(record)


def _choose_backend() -> None:
    """Make matplotlib, if the user imports it, use this package's backend, unless the user has chosen another one.

    A backend set by a notebook does not count as the user's choice: a server that was started from one inherits it.
    """
    if os.environ.get("MPLBACKEND", "").removeprefix("module://") in {
        "",
        "inline",
        "matplotlib_inline.backend_inline",
    }:
        set_variable("MPLBACKEND", "module://pserver.display.matplotlib_backend")

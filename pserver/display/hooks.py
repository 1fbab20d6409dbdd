"""Where user code leaves displays, warnings, log records and figures: what an engine has in these places."""

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
    """Where Python asks what to do with a display, a warning or a log record; the engine's answers.

    `max_message_bytes`: the client takes no larger message.
    """

    def __init__(self, outbox: Outbox, max_message_bytes: int) -> None:
        self._outbox = outbox
        # Half of it: there is more in a message than the data, by little.
        self._max_display_bytes = min(_MAX_DISPLAY_BYTES, max_message_bytes // 2)
        self._show_in_child = warnings.showwarning

    def install(self, names: dict[str, Any]) -> None:
        """Put them into their places; `names` is the workspace."""
        names["display"] = vars(builtins)["display"] = self.display
        warnings.showwarning = self.show_warning
        # Not a handler of the root logger: with one, `logging.basicConfig` would do nothing. This one is asked if
        # nobody has configured anything, and, unlike Python's own, takes every level that the loggers let pass.
        logging.lastResort = LogForwarder(self._outbox)
        _choose_backend()

    def display(self, *objects: object) -> None:
        """Show objects on the client: in its notebook as pictures, tables and text, elsewhere as text.

        `objects`: a matplotlib figure; an object with methods such as ``_repr_html_`` or ``_repr_png_``, as IPython
        uses them; of anything else its ``repr``. If such a method fails, its traceback is printed.
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
        text = f"<not shown: {size} bytes ({kinds}), the limit of a display is {self._max_display_bytes}>"
        return Bundle({"text/plain": text}, {})

    def show_warning(  # noqa: PLR0917 - as Python's has it
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Do what `warnings.showwarning` is for."""
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
        """Send one record; one whose text cannot be made is an error as everywhere in `logging`."""
        try:
            content = log_contents(record)
            size = len(content["message"]) + len(content["exc_text"] or "")
            if not self._outbox.put("log", content, size) and sys.stderr is not None:
                sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - the user's arguments are formatted here
            self.handleError(record)


def _choose_backend() -> None:
    """Let matplotlib, if the user imports it, give its figures to us; unless the user has chosen another backend.

    What a notebook sets for itself is no choice of the user: a server that was started from one inherits it.
    """
    if os.environ.get("MPLBACKEND", "").removeprefix("module://") in {
        "",
        "inline",
        "matplotlib_inline.backend_inline",
    }:
        set_variable("MPLBACKEND", "module://pserver.display.matplotlib_backend")

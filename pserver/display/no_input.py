"""Make reading from the keyboard, which an engine does not have, fail immediately with a helpful message."""

import getpass
import io
import os
import sys
from typing import Any, NoReturn

_NO_INPUT = (
    "an engine has no keyboard: ask for the input on the client, and send it with psend or push; "
    "precv(sockets[0]) receives here what psend has sent"
)
_NO_DEBUGGER = (
    "an engine has no keyboard, so debuggers do not work here: the client's error contains the traceback; print or "
    "display the values of interest, or set PYTHONBREAKPOINT to a debugger that needs no keyboard"
)


class NoInput(io.TextIOBase):
    """Takes the place of standard input."""

    def fileno(self) -> int:
        """Return the descriptor of an empty input, for child programs."""
        return 0

    def readable(self) -> bool:
        """Return true, because standard input is for reading."""
        return True

    def read(self, size: int | None = -1, /) -> str:  # noqa: ARG002 - always fails
        """Fail."""
        _fail()

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]  # noqa: ARG002
        """Fail; `input` and iteration also call this."""
        _fail()


def install() -> None:
    """Make all functions that ask for input fail."""
    sys.stdin = NoInput()
    sys.breakpointhook = _no_breakpoint
    getpass.getpass = _no_password


def _fail() -> NoReturn:
    # A debugger would treat the end of its input as a request to quit, and raise a bare `BdbQuit`.
    frame = sys._getframe(2)
    if frame.f_globals.get("__name__") in {"cmd", "pdb"}:
        raise RuntimeError(_NO_DEBUGGER)
    raise EOFError(_NO_INPUT)


def _no_breakpoint(*args: Any, **kwargs: Any) -> Any:
    if os.environ.get(
        "PYTHONBREAKPOINT"
    ):  # the user has chosen a debugger that needs no keyboard, or 0 for none
        return sys.__breakpointhook__(*args, **kwargs)
    raise RuntimeError(_NO_DEBUGGER)


def _no_password(prompt: str = "Password: ", stream: object = None, **_: object) -> str:  # noqa: ARG001
    raise EOFError(_NO_INPUT)

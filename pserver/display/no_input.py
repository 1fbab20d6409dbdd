"""Reading from a keyboard, which an engine does not have, fails at once and says what to do instead."""

import getpass
import io
import os
import sys
from typing import Any, NoReturn

_NO_INPUT = (
    "an engine has no keyboard: ask at the client, and send the answer with psend or push; "
    "precv(sockets[0]) receives here what psend has sent"
)
_NO_DEBUGGER = (
    "an engine has no keyboard, so no debugger can be used here: the client's error has the traceback; print or "
    "display what you want to see, or set PYTHONBREAKPOINT to a debugger that is reached in another way"
)


class NoInput(io.TextIOBase):
    """Stands where a program expects its standard input."""

    def fileno(self) -> int:
        """Return the descriptor, from which child programs may read that there is nothing."""
        return 0

    def readable(self) -> bool:
        """Say that it is for reading."""
        return True

    def read(self, size: int | None = -1, /) -> str:  # noqa: ARG002 - it always fails
        """Fail."""
        _fail()

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]  # noqa: ARG002
        """Fail; also for `input` and for iterating."""
        _fail()


def install() -> None:
    """Let all ways to ask for input fail."""
    sys.stdin = NoInput()
    sys.breakpointhook = _no_breakpoint
    getpass.getpass = _no_password


def _fail() -> NoReturn:
    # The debugger takes the end of its input for the wish to end the program, and that ends in a bare `BdbQuit`.
    frame = sys._getframe(2)
    if frame.f_globals.get("__name__") in {"cmd", "pdb"}:
        raise RuntimeError(_NO_DEBUGGER)
    raise EOFError(_NO_INPUT)


def _no_breakpoint(*args: Any, **kwargs: Any) -> Any:
    if os.environ.get("PYTHONBREAKPOINT"):  # none that needs a keyboard, let us hope; or 0, none at all
        return sys.__breakpointhook__(*args, **kwargs)
    raise RuntimeError(_NO_DEBUGGER)


def _no_password(prompt: str = "Password: ", stream: object = None, **_: object) -> str:  # noqa: ARG001
    raise EOFError(_NO_INPUT)

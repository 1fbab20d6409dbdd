"""The report of a failed command or job to the client: its error, and the traceback through the user's own code."""

import contextlib
import os
import traceback
from pathlib import Path
from typing import Any

import pconnect
import pserver
import srp_tools
from pconnect.commands.remote_errors import builtin_bases, plain_fields
from pconnect.errors import ParallelError
from pserver.services import registry

_MAX_TRACEBACK_CHARACTERS = 2**16
_MAX_MESSAGE_CHARACTERS = 2**12
# The traceback starts with the frames of these files, which call the user's code.
_OUR_FIRST_FRAMES = {
    str(registry.__file__),
    *(str(Path(__file__).with_name(name)) for name in ("command_runner.py", "job_runner.py", "workspace.py")),
}
# The frames of these lie between the user's line and the place where this package raises an error.
_OUR_PATHS = (
    *(f"{Path(str(module.__file__)).parent}{os.sep}" for module in (pconnect, pserver, srp_tools)),
    str(contextlib.__file__),
)


def not_begun() -> KeyboardInterrupt:
    """Return the error of a command that was interrupted or cancelled while it waited."""
    return KeyboardInterrupt("it was interrupted before it began")


def describe(error: BaseException) -> dict[str, Any]:
    """Return an error in the form sent to the client, without the frames of this package."""
    try:
        text = "".join(_user_traceback(error).format())
        message = str(error)
    except Exception as again:  # noqa: BLE001 - the user's own __str__ may fail
        text = message = f"{type(error).__qualname__}: its text is not available: {again!r}"
    return {
        "type": type(error).__qualname__,
        "bases": builtin_bases(error),
        "message": message[:_MAX_MESSAGE_CHARACTERS],
        "traceback": _shorten(text),
        "fields": plain_fields(error),
    }


def _user_traceback(error: BaseException) -> traceback.TracebackException:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in _OUR_FIRST_FRAMES:
        frames = frames.tb_next
    found = traceback.TracebackException(type(error), error, frames, compact=True)
    # If a call into this package fails or is interrupted, the user's line matters, not our line inside the call.
    if isinstance(error, ParallelError | KeyboardInterrupt | TimeoutError):
        found.stack = traceback.StackSummary.from_list(
            [frame for frame in found.stack if not frame.filename.startswith(_OUR_PATHS)]
        )
    return found


def _shorten(text: str) -> str:
    if len(text) <= _MAX_TRACEBACK_CHARACTERS:
        return text
    half = _MAX_TRACEBACK_CHARACTERS // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"

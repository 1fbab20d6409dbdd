"""What the client learns of a command or job that failed: its error, and the traceback through the user's own code."""

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
# The frames of these that run a command come before the user's.
_OUR_FIRST_FRAMES = {
    str(registry.__file__),
    *(str(Path(__file__).with_name(name)) for name in ("command_runner.py", "job_runner.py", "workspace.py")),
}
# Those that stand between the user's line and the place where this package raises an error.
_OUR_PATHS = (
    *(f"{Path(str(module.__file__)).parent}{os.sep}" for module in (pconnect, pserver, srp_tools)),
    str(contextlib.__file__),
)


def not_begun() -> KeyboardInterrupt:
    """Return the error of a command that was interrupted or cancelled while it waited."""
    return KeyboardInterrupt("it was interrupted before it began")


def describe(error: BaseException) -> dict[str, Any]:
    """Return what the client learns of an error, without the frames of this package that are of no interest."""
    try:
        text = "".join(_told(error).format())
        message = str(error)
    except Exception as again:  # noqa: BLE001 - the user's own __str__ may fail
        text = message = f"{type(error).__qualname__}, whose text cannot be had: {again!r}"
    return {
        "type": type(error).__qualname__,
        "bases": builtin_bases(error),
        "message": message[:_MAX_MESSAGE_CHARACTERS],
        "traceback": _shorten(text),
        "fields": plain_fields(error),
    }


def _told(error: BaseException) -> traceback.TracebackException:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in _OUR_FIRST_FRAMES:
        frames = frames.tb_next
    told = traceback.TracebackException(type(error), error, frames, compact=True)
    # Where our own calls refuse something or are interrupted, the user's line counts and not where in them it was.
    if isinstance(error, ParallelError | KeyboardInterrupt | TimeoutError):
        told.stack = traceback.StackSummary.from_list(
            [frame for frame in told.stack if not frame.filename.startswith(_OUR_PATHS)]
        )
    return told


def _shorten(text: str) -> str:
    if len(text) <= _MAX_TRACEBACK_CHARACTERS:
        return text
    half = _MAX_TRACEBACK_CHARACTERS // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"

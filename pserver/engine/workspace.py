"""The workspace of an engine: where commands are compiled, run, and described when they fail."""

import ast
import linecache
import os
import sys
import traceback
import types
from pathlib import Path
from typing import Any

import numpy as np

import pconnect
import pserver
import srp_tools
from pconnect.commands.function_pickling import unpack_arguments, unpack_function
from pconnect.commands.remote_errors import builtin_bases
from pconnect.errors import ParallelError
from pconnect.jobs.worker_api import job_folder, progress
from pconnect.loop.network import Network
from pconnect.messaging import collectives
from pconnect.messaging.send_receive import precv, psend, select_sockets
from pconnect.remote_entry import keep_sources
from pserver.services import registry

_MAX_TRACEBACK_CHARACTERS = 2**16
_MAX_MESSAGE_CHARACTERS = 2**12
# The frames of these that run a command come before the user's.
_OUR_FIRST_FRAMES = {
    __file__,
    str(registry.__file__),
    *(str(Path(__file__).with_name(name)) for name in ("command_runner.py", "worker.py")),
}
_OUR_FOLDERS = tuple(
    f"{Path(str(module.__file__)).parent}{os.sep}" for module in (pconnect, pserver, srp_tools)
)
# Commands that are kept: compiled, for those sent again and again, and as text, for tracebacks through their functions.
_KEPT_COMMANDS = 1000


class Workspace:
    """The names that the user's code sees.

    It is the ``__main__`` module, where pickle and multiprocessing look for what a user defines.
    """

    def __init__(self, sockets: Network) -> None:
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        sys.path.insert(0, "")
        self.names: dict[str, Any] = main.__dict__
        self.names.update(sockets=sockets, psend=psend, precv=precv, select_sockets=select_sockets, np=np)
        self.names["progress"] = progress
        self.names["job_folder"] = job_folder
        self.names.update({name: getattr(collectives, name) for name in collectives.__all__})
        # By source text and by whether its value is wanted, the oldest first.
        self._codes: dict[tuple[str, bool], tuple[types.CodeType, types.CodeType | None]] = {}

    def run(self, source: str, number: int, *, wants_value: bool) -> Any:
        """Run a command; return the value of its last statement, if that is an expression and its value is wanted."""
        key = source, wants_value
        statements, expression = self._codes.get(key) or self._compile(key, number)
        exec(statements, self.names)  # noqa: S102 - to run a user's code is what this is for
        return None if expression is None else eval(expression, self.names)  # noqa: S307 - the same

    def call(self, contents: list[Any]) -> Any:
        """Call a function with its arguments, as the client has sent them; see `function_pickling`."""
        text_or_data, pickled, arguments, sources = contents
        keep_sources(sources)
        if isinstance(text_or_data, str):
            function = eval(text_or_data, self.names)  # noqa: S307 - to run a user's code is what this is for
        else:
            function = unpack_function(text_or_data, self.names)
        args, kwargs = unpack_arguments(arguments, pickled=pickled)
        return function(*args, **kwargs)

    def _compile(self, key: tuple[str, bool], number: int) -> tuple[types.CodeType, types.CodeType | None]:
        """Compile a command, and keep its text for tracebacks; one that is sent again keeps its first number."""
        source, wants_value = key
        name = f"<command {number}>"
        if len(self._codes) == _KEPT_COMMANDS:
            linecache.cache.pop(self._codes.pop(next(iter(self._codes)))[0].co_filename, None)
        tree = ast.parse(source, name)
        last = tree.body.pop() if wants_value and tree.body and isinstance(tree.body[-1], ast.Expr) else None
        expression = None
        if isinstance(last, ast.Expr):
            expression = compile(ast.Expression(last.value), name, "eval", dont_inherit=True)
        codes = self._codes[key] = compile(tree, name, "exec", dont_inherit=True), expression
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        return codes


def describe(error: BaseException) -> dict[str, Any]:
    """Return what is told of a failed command, without the frames of this package that are of no interest."""
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
    }


def _told(error: BaseException) -> traceback.TracebackException:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in _OUR_FIRST_FRAMES:
        frames = frames.tb_next
    told = traceback.TracebackException(type(error), error, frames, compact=True)
    # Where our own calls refuse something or are interrupted, the user's line counts and not where in them it was.
    if isinstance(error, ParallelError | KeyboardInterrupt | TimeoutError):
        told.stack = traceback.StackSummary.from_list(
            [frame for frame in told.stack if not frame.filename.startswith(_OUR_FOLDERS)]
        )
    return told


def _shorten(text: str) -> str:
    if len(text) <= _MAX_TRACEBACK_CHARACTERS:
        return text
    half = _MAX_TRACEBACK_CHARACTERS // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"

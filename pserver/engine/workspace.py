"""The workspace of an engine, in which commands are compiled and run."""

import linecache
import sys
import types
from typing import Any

import numpy as np

from pconnect.commands.function_pickling import unpack_arguments, unpack_function
from pconnect.jobs.worker_api import job_folder, progress
from pconnect.loop.network import Network
from pconnect.messaging import collectives
from pconnect.messaging.send_receive import precv, psend, select_sockets
from pconnect.one_process.source_code import compile_source
from pconnect.remote_entry import keep_sources

# Number of commands kept: compiled, for repeated commands, and as text, for tracebacks through their functions.
_KEPT_COMMANDS = 1000


class Workspace:
    """The names that the user's code sees.

    It is the ``__main__`` module, where pickle and multiprocessing look up the user's definitions.
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
        # The key is the source text and whether its value is wanted; the oldest entry comes first.
        self._codes: dict[tuple[str, bool], tuple[types.CodeType, types.CodeType | None]] = {}

    def run(self, source: str, number: int, *, wants_value: bool) -> Any:
        """Run a command; return the value of its last statement, if that is an expression and the value is wanted."""
        key = source, wants_value
        statements, expression = self._codes.get(key) or self._compile(key, number)
        exec(statements, self.names)  # noqa: S102 - running the user's code is the purpose
        return None if expression is None else eval(expression, self.names)  # noqa: S307 - the same

    def call(self, contents: list[Any]) -> Any:
        """Call a function with its arguments, in the form sent by the client; see `function_pickling`."""
        text_or_data, pickled, arguments, sources = contents
        keep_sources(sources)
        if isinstance(text_or_data, str):
            function = eval(text_or_data, self.names)  # noqa: S307 - running the user's code is the purpose
        else:
            function = unpack_function(text_or_data, self.names)
        args, kwargs = unpack_arguments(arguments, pickled=pickled)
        return function(*args, **kwargs)

    def _compile(self, key: tuple[str, bool], number: int) -> tuple[types.CodeType, types.CodeType | None]:
        """Compile a command, and keep its text for tracebacks; a repeated command keeps its first number."""
        source, wants_value = key
        name = f"<command {number}>"
        if len(self._codes) == _KEPT_COMMANDS:
            linecache.cache.pop(self._codes.pop(next(iter(self._codes)))[0].co_filename, None)
        codes = self._codes[key] = compile_source(source, name, wants_value=wants_value)
        return codes

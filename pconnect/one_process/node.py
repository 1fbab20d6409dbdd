"""A node of a network in one process: a workspace, and commands that run in it immediately."""

import builtins
import contextlib
import dis
import functools
import itertools
import time
import types
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pconnect.commands.command import Command
from pconnect.commands.command_list import Commands
from pconnect.errors import ConnectionLostError
from pconnect.jobs import random_streams
from pconnect.jobs.seeds import Seeds
from pconnect.jobs.worker_api import job_folder, progress
from pconnect.messaging import collectives
from pconnect.messaging.send_receive import precv, psend, select_sockets
from pconnect.one_process.source_code import compile_source
from pconnect.programs.run_here import HOST
from pconnect.remote_entry import map_part

_file_numbers = itertools.count(1)


class SerialCommand(Command):
    """A command that has ended. Its error is the original exception."""

    def __init__(self, source: str, node: int, number: int) -> None:
        # There is nothing to wait for, so neither a link nor an event loop is needed.
        super().__init__(source, None, (node, HOST), number, None)  # type: ignore[arg-type]
        self.begun = True

    def run(self, work: Callable[[], object], *, wants_value: bool) -> None:
        """Do the work of the command, and record its outcome."""
        if wants_value:
            self.expect_value(lambda value: value)
        begin, error, value = time.perf_counter(), None, None
        try:
            value = work()
        except Exception as raised:  # noqa: BLE001 - `result` raises any exception; Ctrl-C ends this call itself
            error = raised
        self.finish(error, time.perf_counter() - begin)  # type: ignore[arg-type] # any exception
        self.arrive(value)

    def __await__(self) -> Generator[Any, None, Any]:
        return _ended(self).__await__()


class SerialCommands(Commands):
    """A command on several nodes. If several of them failed, its error is the first one."""

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Return the error that `result` raises, or ``None``."""
        errors = [command.exception(timeout) for command in self]
        return next((error for error in errors if error is not None), None)

    def __await__(self) -> Generator[Any, None, Any]:
        return _ended(self).__await__()


async def _ended(command: Any) -> Any:
    return command.result()


class Home:
    """The state shared by all parts of a network. `network_id`: the entropy of the random numbers of unseeded jobs."""

    def __init__(self, network_id: int, count: int) -> None:
        self.network_id = network_id
        self.nodes = [Workspace(number) for number in range(count + 1)]
        self.seeds: Seeds | None = None  #: for jobs submitted without a seed
        self.numbers = itertools.count(1)  #: of commands
        self.job_numbers = itertools.count(1)
        self.failed: list[SerialCommand] = []  #: commands that failed
        self.has_broadcasts = False
        self.closed = False

    def check_open(self) -> None:
        """Raise `ConnectionLostError` if the network is closed."""
        if self.closed:
            raise ConnectionLostError("the network is closed")


class Workspace:
    """The names that user code sees on one node, and the state of its random numbers if the user set a seed."""

    def __init__(self, number: int) -> None:
        self.number = number
        #: The initial names.
        self.given: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, "np": np}
        self.given |= {"psend": psend, "precv": precv, "select_sockets": select_sockets}
        self.given |= {"progress": progress, "job_folder": job_folder}
        self.given |= {name: getattr(collectives, name) for name in collectives.__all__}
        self.names: dict[str, Any] = {}
        self._random: random_streams.Saved | None = None

    def clear(self) -> None:
        """Reset the workspace to its initial state."""
        self._random = None
        self.names.clear()
        self.names.update(self.given)

    def run(self, source: str, *, wants_value: bool, file_name: str | None = None) -> Any:
        """Run source text; return the value of its last expression, if `wants_value`."""
        name = file_name or f"<command {next(_file_numbers)} of pconnect.serial>"
        statements, expression = compile_source(source, name, wants_value=wants_value)
        with self._own_random_numbers():
            exec(statements, self.names)  # noqa: S102 - the purpose of this method is to run user code
            return None if expression is None else eval(expression, self.names)  # noqa: S307 - as above

    def call(
        self, function: Callable[..., Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> object:
        """Call a function, or an expression of the workspace, in the way a command does."""
        with self._own_random_numbers():
            return self.call_here(function, args, kwargs)

    def call_here(
        self, function: Callable[..., Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> object:
        """Call it with the current state of the random numbers."""
        is_chunk = isinstance(function, functools.partial) and function.func is map_part
        given = function.args[0] if is_chunk else function  # type: ignore[union-attr]
        called = eval(given, self.names) if isinstance(given, str) else given  # noqa: S307 - as above
        with _with_names_of(called, self.names):
            return map_part(called, *args) if is_chunk else called(*args, **kwargs)

    def seed(self, seed: int) -> None:
        """Seed the random numbers of commands, as an engine with this node number would."""
        before = random_streams.save(with_global_generators=True)
        try:
            random_streams.begin(seed, (0, 0, self.number), is_seeded=True)
            self._random = random_streams.save(with_global_generators=True)
        finally:
            random_streams.restore(before)

    @contextlib.contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        if self._random is None:
            yield
            return
        before = random_streams.save(with_global_generators=True)
        random_streams.restore(self._random)
        try:
            yield
        finally:
            self._random = random_streams.save(with_global_generators=True)
            random_streams.restore(before)


@contextlib.contextmanager
def _with_names_of(function: object, names: Mapping[str, Any]) -> Iterator[None]:
    """Let a function use names of a workspace that its own module does not define.

    The names are lent to the module for the call. A copy of the function would be unknown to debuggers, and could not
    assign to names of the module.
    """
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        yield
        return
    own = function.__globals__
    missing = {
        name
        for name in _global_names(function.__code__)
        if name in names and name not in own and not hasattr(builtins, name)
    }
    own.update({name: names[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            own.pop(name, None)


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Yield the global names that code uses, including those in nested functions."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)

"""A node of a network in one process: a workspace, and the commands that run in it at once."""

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

_names_of_files = itertools.count(1)


class SerialCommand(Command):
    """A command that has ended. Its error is the exception itself, as it was raised."""

    def __init__(self, source: str, node: int, number: int) -> None:
        # Nothing is waited for, so neither a link nor an event loop is needed.
        super().__init__(source, None, (node, HOST), number, None)  # type: ignore[arg-type]
        self.begun = True

    def run(self, work: Callable[[], object], *, wants_value: bool) -> None:
        """Do what it is for."""
        if wants_value:
            self.expect_value(lambda value: value)
        begin, error, value = time.perf_counter(), None, None
        try:
            value = work()
        except Exception as raised:  # noqa: BLE001 - whatever it is, `result` raises it; Ctrl-C ends the call itself
            error = raised
        self.finish(error, time.perf_counter() - begin)  # type: ignore[arg-type] # any exception
        self.arrive(value)

    def __await__(self) -> Generator[Any, None, Any]:
        return _ended(self).__await__()


class SerialCommands(Commands):
    """A command at several nodes. If it failed at more than one, the error is that of the first."""

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Return the error that `result` raises, or ``None``."""
        errors = [command.exception(timeout) for command in self]
        return next((error for error in errors if error is not None), None)

    def __await__(self) -> Generator[Any, None, Any]:
        return _ended(self).__await__()


async def _ended(command: Any) -> Any:
    return command.result()


class Home:
    """What all parts of one such network share. `network_id`: from which jobs without a seed have random numbers."""

    def __init__(self, network_id: int, count: int) -> None:
        self.network_id = network_id
        self.nodes = [Workspace(number) for number in range(count + 1)]
        self.seeds: Seeds | None = None  #: of jobs whose call says nothing else
        self.numbers = itertools.count(1)  #: of commands
        self.job_numbers = itertools.count(1)
        self.failed: list[SerialCommand] = []  #: those that have failed
        self.has_broadcasts = False
        self.closed = False

    def check_open(self) -> None:
        """Raise if the network was closed."""
        if self.closed:
            raise ConnectionLostError("the network is closed")


class Workspace:
    """The names that the user's code sees at one node, and its random numbers if the user gave them a seed."""

    def __init__(self, number: int) -> None:
        self.number = number
        #: What it has from the beginning.
        self.given: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, "np": np}
        self.given |= {"psend": psend, "precv": precv, "select_sockets": select_sockets}
        self.given |= {"progress": progress, "job_folder": job_folder}
        self.given |= {name: getattr(collectives, name) for name in collectives.__all__}
        self.names: dict[str, Any] = {}
        self._random: random_streams.Saved | None = None

    def clear(self) -> None:
        """Make it as it is at the beginning."""
        self._random = None
        self.names.clear()
        self.names.update(self.given)

    def run(self, source: str, *, wants_value: bool, file_name: str | None = None) -> Any:
        """Run source text; return the value of a last expression, if that is wanted."""
        name = file_name or f"<command {next(_names_of_files)} of pconnect.serial>"
        statements, expression = compile_source(source, name, wants_value=wants_value)
        with self._own_random_numbers():
            exec(statements, self.names)  # noqa: S102 - to run a user's code is what this is for
            return None if expression is None else eval(expression, self.names)  # noqa: S307 - the same

    def call(
        self, function: Callable[..., Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> object:
        """Call a function, or an expression of the workspace, as a command does."""
        with self._own_random_numbers():
            return self.call_here(function, args, kwargs)

    def call_here(
        self, function: Callable[..., Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> object:
        """Do the same with the random numbers that are there."""
        called = eval(function, self.names) if isinstance(function, str) else function  # noqa: S307 - as above
        with _lent(called, self.names):
            return called(*args, **kwargs)

    def seed(self, seed: int) -> None:
        """Give the random numbers of commands a seed, as the engine of this number would."""
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
def _lent(function: object, names: Mapping[str, Any]) -> Iterator[None]:
    """Let a function use names of a workspace that are not defined where it is.

    It is not copied for that: debuggers know it, and it may assign to names of its own module.
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
    """Yield the global names that code uses, also in the functions within."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)

"""The methods of `pconnect.views.network_views.View` for a network in one process, and for its nodes."""

import builtins
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Never

import numpy as np

from pconnect.commands.function_pickling import describe
from pconnect.commands.table import Table
from pconnect.errors import ConfigurationError
from pconnect.executors.multiprocessing_pool import Pool
from pconnect.executors.pmap import pmap
from pconnect.executors.submit_options import given_options
from pconnect.jobs.broadcast_value import Broadcast
from pconnect.jobs.job import Job, JobOptions
from pconnect.jobs.seeds import Seeds
from pconnect.loop.in_process import InProcess, missing
from pconnect.one_process.executor import SerialExecutor
from pconnect.one_process.node import Home, SerialCommand, SerialCommands, Workspace
from pconnect.programs.program import PathLike
from pconnect.programs.run_here import HOST, run_here
from pconnect.session.remote_calls import check_source
from pconnect.values.dtypes import joined
from pconnect.views.map_views import chosen_nodes
from pconnect.views.network_views import check_name, cut_evenly


class Refused:
    """A name of networks that is not available in one process: using it raises an error that says so."""

    def __init__(self, instead: str, *, is_call: bool = True) -> None:
        self._instead = instead
        self._is_call = is_call

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    def __get__(self, view: object, _: type) -> Any:
        if view is None:
            return self

        def refuse(*_: Any, **__: Any) -> Never:
            raise missing(f"{self._name}()" if self._is_call else self._name, self._instead)

        return refuse if self._is_call else refuse()


class SerialView(InProcess):
    """Base class of the network and its nodes, with the methods of `pconnect.views.network_views.View`."""

    _home: Home

    popen = Refused("use `subprocess.Popen` to start programs here")
    put = Refused("the files are here already")
    get = Refused("the files are here already")
    kill = Refused("it would end your program")
    info = Refused("there are no other nodes to ask")
    statistics = Refused("there are no workers")
    versions = Refused("there is only one version of each package")
    which = Refused("use `shutil.which` to look for programs here")

    def _workspaces(self) -> list[Workspace]:
        raise NotImplementedError

    def _give(self, source: str, work: Callable[[Workspace], object], *, wants_value: bool = True) -> Any:
        self._home.check_open()
        number = next(self._home.numbers)
        commands = []
        for workspace in self._workspaces():
            command = SerialCommand(source, workspace.number, number)
            commands.append(command)
            command.run(lambda workspace=workspace: work(workspace), wants_value=wants_value)  # type: ignore[misc]
            if command.known_error is not None:
                self._home.failed.append(command)
        return commands[0] if isinstance(self, SerialNode) else SerialCommands(source, commands)

    def __dir__(self) -> list[str]:
        """Return the names that a network of servers has; `reval` and `rfeval` are functions there."""
        return sorted(set(super().__dir__()) - {"reval", "rfeval"})

    # --- commands ---

    def reval(self, source: str) -> Any:
        """Do what `pconnect.reval` does."""
        return self._run(source, wants_value=False)

    def rfeval(self, function: Callable[..., Any] | str, args: Sequence[object]) -> Any:
        """Do what `pconnect.rfeval` does."""
        return self.call(function, args).result()

    def eval(self, source: str, *, allow_pickle: bool = False, time_limit: float | None = None) -> Any:
        """Run source text and return a command with the value of its last expression."""
        return self._run(source, wants_value=True)

    def _run(self, source: str, *, wants_value: bool, file_name: str | None = None) -> Any:
        text = check_source(source)
        return self._give(
            text,
            lambda workspace: workspace.run(text, wants_value=wants_value, file_name=file_name),
            wants_value=wants_value,
        )

    def apply(self, function: Callable[..., Any] | str, /, *args: object, **kwargs: object) -> Any:
        """Call a function on each node."""
        return self.call(function, args, kwargs)

    def call(
        self,
        function: Callable[..., Any] | str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        *,
        allow_pickle: bool = False,
        time_limit: float | None = None,
    ) -> Any:
        """Call a function in the same way as `apply`."""
        return self._give(describe(function), lambda workspace: workspace.call(function, args, kwargs or {}))

    def run(
        self,
        what: str | Path | Sequence[PathLike],
        *,
        input: bytes | str | None = None,  # noqa: A002 - the name used by other networks
        cwd: PathLike | None = None,
        env: Mapping[str, str] | None = None,
        text: bool = False,
        check: bool = False,
        time_limit: float | None = None,
    ) -> Any:
        """Run a Python file, under its path so that debuggers find it; or, given a list, a program on this machine."""
        if not isinstance(what, str | Path):
            options: dict[str, Any] = {
                "cwd": cwd,
                "env": env,
                "text": text,
                "check": check,
                "time_limit": time_limit,
            }
            ended = [run_here(what, input, workspace.number, **options) for workspace in self._workspaces()]
            return ended[0] if isinstance(self, SerialNode) else ended
        source = importlib.util.decode_source(Path(what).read_bytes())
        compile(source, str(what), "exec", dont_inherit=True)
        return self._run(source, wants_value=False, file_name=str(what))

    # --- names ---

    def push(
        self,
        values: Mapping[str, object] | None = None,
        /,
        *,
        timeout: float | None = None,
        **more: object,
    ) -> None:
        """Assign values to names in the workspaces; they are not copied."""
        names = {**(values or {}), **more}
        for name in names:
            check_name(name)
        for workspace in self._open_workspaces():
            workspace.names.update(names)

    def pull(self, names: str | Sequence[str], *, timeout: float | None = None) -> Any:
        """Return the values of names in the workspaces."""
        for name in [names] if isinstance(names, str) else names:
            check_name(name)
        found = [_values_of(workspace.names, names) for workspace in self._open_workspaces()]
        return found[0] if isinstance(self, SerialNode) else found

    def __setitem__(self, name: str, value: object) -> None:
        self.push({name: value})

    def scatter(self, name: str, values: Any, *, axis: int = 0, timeout: float | None = None) -> None:
        """Cut an array or a sequence into one part per node, and assign each part to a name there."""
        check_name(name)
        workspaces = self._open_workspaces()
        parts: Any = np.array_split(values, len(workspaces), axis) if isinstance(values, np.ndarray) else None
        for part, workspace in zip(parts or cut_evenly(values, len(workspaces)), workspaces, strict=True):
            workspace.names[name] = part

    def gather(self, name: str, *, axis: int = 0, timeout: float | None = None) -> Any:
        """Join the parts that the nodes hold under a name."""
        check_name(name)
        parts = [_values_of(workspace.names, name) for workspace in self._open_workspaces()]
        if parts and all(isinstance(part, np.ndarray) for part in parts):
            return joined(parts, axis)
        return [item for part in parts for item in part]

    def who(self, *, timeout: float | None = None) -> Table:
        """Return the contents of the workspaces: type and shape for each node and name."""
        rows = [
            [workspace.number, HOST, name, type(value).__name__, getattr(value, "shape", None)]
            for workspace in self._open_workspaces()
            for name, value in sorted(workspace.names.items())
            if name not in workspace.given and not name.startswith("_")
        ]
        return Table(["node", "host", "name", "type", "shape"], rows)

    def _open_workspaces(self) -> list[Workspace]:
        self._home.check_open()
        return self._workspaces()

    def interrupt(self) -> None:
        """Do nothing: no command can be running when this is called."""

    def restart(self, *, timeout: float = 30.0) -> None:
        """Reset the workspaces."""
        for workspace in self._open_workspaces():
            workspace.clear()

    def sync_code(self, path: str | Path, **options: Any) -> list[str]:
        """Do nothing: all local modules can be imported already."""
        return []

    # --- jobs ---

    def executor(
        self,
        *,
        retries: int | None = None,
        time_limit: float | None = None,
        memory_limit: int | None = None,
        isolate: bool = False,
        allow_pickle: bool = False,
        grace: float = 5.0,
        exclusive: bool = False,
        seed: int | None = None,
        max_workers: int | None = None,
    ) -> SerialExecutor:
        """Return an executor; only `seed` has an effect."""
        options = JobOptions(retries, time_limit, memory_limit, isolate, allow_pickle, grace)
        return SerialExecutor(
            self._home, options, self._numbers(), self._seeds(seed), max_workers=max_workers
        )

    def pool(self, processes: int | None = None, **options: Any) -> Pool:
        """Return a pool with the interface of `multiprocessing.Pool`."""
        return Pool(self.executor(**options), processes)

    def submit(
        self,
        function: Callable[..., Any] | str,
        /,
        *args: Any,
        allow_pickle: bool | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> Job:
        """Call a function, and return a future with its result or error."""
        if given := given_options(function, allow_pickle=allow_pickle, seed=seed):
            return self.executor(**given).submit(function, *args, **kwargs)
        return SerialExecutor(self._home, JobOptions(), self._numbers()).submit(function, *args, **kwargs)

    def map(
        self,
        function: Callable[..., Any] | str,
        *iterables: Iterable[Any],
        ordered: bool = True,
        chunksize: int | str = "auto",
        on_error: str = "raise",
        retries: int | None = None,
        time_limit: float | None = None,
        on: int | Sequence[int] | None = None,
        allow_pickle: bool = False,
        seed: int | None = None,
        max_workers: int | None = None,
    ) -> Iterator[Any]:
        """Call a function for each item, when its result is requested."""
        options = JobOptions(retries=retries, time_limit=time_limit, allow_pickle=allow_pickle)
        executor = SerialExecutor(
            self._home, options, self._numbers(on), self._seeds(seed), max_workers=max_workers
        )
        return executor.results(function, iterables, on_error, chunksize)

    def pmap(
        self,
        function: Callable[..., Any] | str,
        *inputs: Any,
        uniform_output: bool = True,
        error_handler: Callable[..., Any] | None = None,
        chunksize: int | str = "auto",
        retries: int | None = None,
        time_limit: float | None = None,
        allow_pickle: bool = False,
        seed: int | None = None,
        vectorized: bool = False,
        reduce: Callable[[Any, Any], Any] | None = None,
        ordered: bool = True,
        max_workers: int | None = None,
    ) -> Any:
        """Call a function for each element of arrays or lists, or for chunks of arrays."""
        options = JobOptions(retries=retries, time_limit=time_limit, allow_pickle=allow_pickle)
        return pmap(
            SerialExecutor(self._home, options, self._numbers(), self._seeds(seed), max_workers=max_workers),
            function,
            inputs,
            uniform_output=uniform_output,
            error_handler=error_handler,
            chunksize=chunksize,
            vectorized=vectorized,
            reduce=reduce,
            ordered=ordered,
        )

    def seed(self, seed: int, *, timeout: float | None = None) -> None:
        """Seed the random numbers of commands and jobs."""
        seeds = Seeds(seed)
        workspaces = self._open_workspaces()
        if len(workspaces) != len(self._home.nodes) - 1:
            raise ConfigurationError(
                "seed() needs a whole network: for a part of it, give seed= to map, submit or executor"
            )
        self._home.seeds = seeds
        for workspace in workspaces:
            workspace.seed(seeds.seed)

    def broadcast(self, value: Any, *, timeout: float | None = None) -> Broadcast:
        """Return a handle that stands for a value in the arguments of jobs."""
        self._home.check_open()
        self._home.has_broadcasts = True
        return _SerialBroadcast("", value, [])

    def _numbers(self, on: int | Sequence[int] | None = None) -> list[int]:
        numbers = [workspace.number for workspace in self._workspaces()]
        return numbers if on is None else sorted(chosen_nodes(on, set(numbers)))

    def _seeds(self, seed: int | None) -> Seeds | None:
        if seed is not None:
            return Seeds(seed)
        return self._home.seeds and self._home.seeds.branch()


def check_is_client(own: int) -> None:
    """Refuse commands from a node other than the client."""
    if own:
        raise ConfigurationError("only the client of a network can do this; an engine cannot send commands")


class SerialNode(SerialView):
    """A single node, such as ``net[1]``."""

    encrypted = False
    error = None
    host = HOST
    transport = "none"

    def __init__(self, home: Home, number: int, own: int) -> None:
        self._home = home
        self.node = number
        self.is_own = number == own
        self._own = own

    def __repr__(self) -> str:
        return f"<node {self.node} of pconnect.serial>"

    def _workspaces(self) -> list[Workspace]:
        check_is_client(self._own)
        if self.is_own:
            raise ConfigurationError(f"node {self.node} is this node itself: choose another")
        return [self._home.nodes[self.node]]


class _SerialBroadcast(Broadcast):
    """A broadcast value that stays in this process."""

    def release(self, timeout: float | None = None) -> None:
        """Do nothing."""


def _values_of(names: Mapping[str, Any], wanted: str | Sequence[str]) -> Any:
    if not isinstance(wanted, str):
        return [_values_of(names, name) for name in wanted]
    if wanted not in names and not hasattr(builtins, wanted):
        raise NameError(f"name {wanted!r} is not defined")
    return names[wanted] if wanted in names else getattr(builtins, wanted)

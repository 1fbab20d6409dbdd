"""IPython magics ``%px``, ``%%px``, ``%autopx``, ``%pxresult``, ``%pxconfig``, with the options of ipyparallel.

See doc/reference/notebook.md. ``%load_ext pconnect`` loads them together with `pconnect.notebook.script_magics`.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from pconnect.commands.command import Command
from pconnect.commands.command_list import Commands
from pconnect.commands.console import with_prefix
from pconnect.commands.print_filter import printed_text
from pconnect.commands.remote_repr import RemoteRepr
from pconnect.link.connection import Connection
from pconnect.loop.progress_bars import bars_after
from pconnect.notebook import tracebacks
from pconnect.notebook.cells import Cells
from pconnect.notebook.completion import make_matcher
from pconnect.notebook.script_magics import ScriptMagics
from pconnect.session import open_networks
from pconnect.session.octave_api import quiet
from pconnect.session.remote_calls import run
from pconnect.views.network_views import ClientNetwork

_SIGNALS = {"SIGINT": False, "2": False, "SIGKILL": True, "9": True}  # whether the signal kills


@dataclass
class _Config:
    """The default options of the magics."""

    network: str | None = None  # a variable of the notebook; None: the network connected last
    targets: str = "all"
    block: bool = True
    stream: bool = True
    verbose: bool = False
    progress_after: float | None = None
    kills_on_interrupt: bool = False

    def __str__(self) -> str:
        """Return the line that sets all of these options."""
        words = [
            "%pxconfig",
            f"--network={self.network or 'last'}",
            f"--targets={self.targets.replace(' ', '')}",
            "--block" if self.block else "--noblock",
            "--stream" if self.stream else "--no-stream",
            "--verbose" if self.verbose else "--no-verbose",
            "" if self.progress_after is None else f"--progress-after={self.progress_after:g}",
            f"--signal-on-interrupt={'SIGKILL' if self.kills_on_interrupt else 'SIGINT'}",
        ]
        return " ".join(filter(None, words))


def _execution_options(function: Any) -> Any:
    for option in (
        argument("-t", "--targets", help="nodes: all, numbers (1,3), a slice (1:3), or a host"),
        argument("-b", "--block", dest="block", action="store_const", const=True, help="wait for the end"),
        argument("-a", "--noblock", dest="block", action="store_const", const=False, help="do not wait"),
        argument(
            "--stream", dest="stream", action="store_const", const=True, help="show output as it arrives"
        ),
        argument(
            "--no-stream", dest="stream", action="store_const", const=False, help="show output at the end"
        ),
        argument(
            "--verbose", dest="verbose", action="store_const", const=True, help="print the nodes it runs on"
        ),
        argument(
            "--no-verbose", dest="verbose", action="store_const", const=False, help="do not print the nodes"
        ),
        argument("--progress-after", type=float, help="seconds before a progress bar appears; -1: no bar"),
        argument(
            "--signal-on-interrupt", choices=sorted(_SIGNALS), help="the signal that Ctrl-C sends first"
        ),
    ):
        function = option(function)
    return function


def _output_options(function: Any) -> Any:
    for option in (
        argument("-r", dest="grouping", action="store_const", const="order", help="same as --group-outputs=order"),
        argument("-e", dest="grouping", action="store_const", const="engine", help="same as --group-outputs=engine"),
        argument("--group-outputs", dest="grouping", choices=["type", "engine", "order"], default="type",
                 help="how to sort the output shown at the end"),
        argument("-o", "--out", metavar="NAME", help="assign the commands to this variable"),
    ):  # fmt: skip
        function = option(function)
    return function


@magics_class
class ParallelMagics(Magics):
    """The magics of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell=shell)
        self._config = _Config()
        self._last: Commands | None = None
        self._is_everywhere = False

    @no_var_expand
    @line_magic
    def px(self, line: str) -> None:
        """Run a line on the engines: ``%px a = np.zeros(3)``."""
        self._execute(line, self._config, grouping="type")

    @no_var_expand
    @magic_arguments()
    @_execution_options
    @_output_options
    @argument("--local", action="store_true", help="run the cell here as well")
    @cell_magic("px")
    def px_cell(self, line: str, cell: str) -> None:
        """Run a cell on the engines, and show the value of its last expression."""
        options = parse_argstring(self.px_cell, line)
        config = self._merged(options)
        if options.local:
            commands = self._start(cell, config, options.out)
            self.shell.run_cell(cell)
            self._finish(commands, config, options.grouping)
        else:
            self._execute(cell, config, grouping=options.grouping, name=options.out)

    @magic_arguments()
    @_output_options
    @line_magic
    def pxresult(self, line: str = "") -> None:
        """Wait for the last command of ``%px`` or ``%%px``, and show its values or raise its errors."""
        options = parse_argstring(self.pxresult, line)
        if self._last is None:
            raise UsageError("there is no command to wait for: run one with %px or %%px first")
        if options.out:
            self.shell.user_ns[options.out] = self._last
        self._finish(self._last, self._config, options.grouping, wait=True)

    @magic_arguments()
    @_execution_options
    @argument(
        "--network",
        "--name",
        metavar="NAME",
        help="variable that holds the network; last: the network connected last",
    )
    @line_magic
    def pxconfig(self, line: str) -> None:
        """Set the default options of the magics; without options, print them."""
        options = parse_argstring(self.pxconfig, line)
        config = self._merged(options)
        if options.network is not None:
            config.network = None if options.network == "last" else options.network
        self._find(config)  # raises if the network or a node does not exist
        self._config = config
        if not line.strip():
            print(config)  # noqa: T201 - requested by the user

    @line_magic
    def autopx(self, _: str = "") -> None:
        """Switch on or off that all cells run on the engines, except cells that begin with a magic."""
        self._is_everywhere = not self._is_everywhere
        transforms = self.shell.input_transformers_cleanup
        if self._is_everywhere:
            transforms.append(_run_on_engines)
        else:
            transforms.remove(_run_on_engines)
        print(f"%autopx {'enabled' if self._is_everywhere else 'disabled'}")  # noqa: T201 - as in ipyparallel

    # --- for the extension ---

    def find(self, targets: str | None) -> ClientNetwork:
        """Return the nodes that a text names, in the configured network; without a text, the configured nodes."""
        config = _Config(**vars(self._config))
        config.targets = targets or config.targets
        return self._find(config)

    def node_for_completion(self) -> Connection | None:
        """Return the node that completes names, or ``None``."""
        try:
            nodes = [node for node in self._find(self._config) if not node.is_own]
        except UsageError:
            return None
        return nodes[0] if nodes else None

    def is_everywhere(self) -> bool:
        """Return whether ``%autopx`` is on."""
        return self._is_everywhere

    def close(self) -> None:
        """Restore the shell's original state."""
        if self._is_everywhere:
            self.shell.input_transformers_cleanup.remove(_run_on_engines)
            self._is_everywhere = False

    # --- running commands ---

    def _merged(self, options: Any) -> _Config:
        """Return the configuration with the options of a magic applied."""
        merged = _Config(**vars(self._config))
        for name in ("targets", "block", "stream", "verbose", "progress_after"):
            if getattr(options, name) is not None:
                setattr(merged, name, getattr(options, name))
        if options.signal_on_interrupt is not None:
            merged.kills_on_interrupt = _SIGNALS[options.signal_on_interrupt]
        return merged

    def _find(self, config: _Config) -> ClientNetwork:
        """Return the nodes of a configuration."""
        if config.network is not None:
            network = self.shell.user_ns.get(config.network)
            if not isinstance(network, ClientNetwork):
                raise UsageError(
                    f"{config.network!r} is not a network: name a variable with %pxconfig --network"
                )
        elif meshes := open_networks.all_open():
            network = ClientNetwork(meshes[-1])
        else:
            raise UsageError("no network is open: connect first, with pconnect(hosts) or local_network()")
        return choose(network, config.targets)

    def _execute(self, source: str, config: _Config, *, grouping: str, name: str | None = None) -> None:
        commands = self._start(source, config, name)
        self._finish(commands, config, grouping)

    def _start(self, source: str, config: _Config, name: str | None) -> Commands:
        view = self._find(config)
        with contextlib.nullcontext() if config.stream else quiet(view):
            # As in IPython, a semicolon at the end suppresses the value.
            commands: Commands = run(source, view, as_display=not source.rstrip().endswith(";"))
        if config.verbose:
            manner = "Parallel" if config.block else "Async parallel"
            print(f"{manner} execution on nodes: {list(commands.nodes)}")  # noqa: T201 - requested by the user
        self._last = commands
        if name:
            self.shell.user_ns[name] = commands
        return commands

    def _finish(self, commands: Commands, config: _Config, grouping: str, *, wait: bool = False) -> None:
        if not (config.block or wait):
            return
        try:
            with bars_after(config.progress_after):
                error = commands.exception()
        except KeyboardInterrupt:
            if config.kills_on_interrupt:
                self._find(config).kill()
            raise
        for step in _in_order(commands, grouping):
            step()
        if error is not None:
            raise error


def choose(network: ClientNetwork, targets: str) -> ClientNetwork:
    """Return the nodes that a text names.

    Raises `UsageError` if no such nodes exist.

    Examples
    --------
    >>> from pconnect import local_network
    >>> with local_network(3) as net:
    ...     choose(net, "1,3").nodes, choose(net, "2:").nodes, choose(net, "all").nodes
    ([1, 3], [2, 3], [1, 2, 3])
    """
    text = targets.strip().strip("[]() ")
    try:
        if text == "all":
            chosen: Any = network[1:] if 0 in network.nodes else network
        elif set(text) <= set("0123456789-:, ") and ":" in text:
            chosen = network[slice(*(int(part) if part.strip() else None for part in text.split(":")))]
        elif set(text) <= set("0123456789-, "):
            chosen = network[[int(part) for part in text.split(",") if part.strip()]]
        else:
            chosen = network[text.strip("'\"")]
    except (KeyError, IndexError, ValueError) as error:
        words = error.args[0] if error.args else error
        raise UsageError(f"--targets {targets}: {words}") from None
    part = ClientNetwork(network.mesh, [chosen.node]) if isinstance(chosen, Connection) else chosen
    nodes = [node for node in part.nodes if node]
    if not nodes:
        raise UsageError(f"--targets {targets}: none of these nodes is an engine")
    return ClientNetwork(network.mesh, nodes)


def _run_on_engines(lines: list[str]) -> list[str]:
    """Make a cell run on the engines, unless it begins with a magic; a transformer of IPython's input."""
    first = next((line.strip() for line in lines if line.strip()), "")
    return lines if not first or first[0] in "%!?" or first.endswith("?") else ["%%px\n", *lines]


_run_on_engines.has_side_effects = True  # type: ignore[attr-defined] # keeps IPython from calling it to check for completeness


def _in_order(commands: Commands, grouping: str) -> Iterator[Callable[[], None]]:
    """Yield steps that show the outcome of commands: output that was withheld, and values."""
    values: list[Callable[[], None]] = [partial(_show_value, command) for command in commands]
    printed: list[list[Callable[[], None]]] = [
        [partial(_show_printed, command, stream) for command in commands] for stream in (1, 2)
    ]
    if grouping == "engine":
        for steps in zip(*printed, values, strict=True):
            yield from steps
    else:
        for kind in (*printed, values):
            yield from kind


def _show_printed(command: Command, stream: int) -> None:
    text = (command.stdout if stream == 1 else command.stderr) if command.is_quiet else ""
    out = sys.stdout if stream == 1 else sys.stderr
    if text:
        lines = printed_text(text).rstrip("\n") + "\n"
        out.write(with_prefix(lines, f"[{command.node} {command.host}] ", "\n"))


def _show_value(command: Command) -> None:
    if not command.has_ended or command.exception() is not None:
        return
    shown: RemoteRepr | None = command.result()
    if shown is None:
        return
    prefix = f"Out[{command.node} {command.host}]:"
    text = repr(shown)
    if shown.is_text:
        print(prefix + ("\n" if "\n" in text else " ") + text)  # noqa: T201 - the output of a cell
    else:
        print(prefix)  # noqa: T201 - the output of a cell
        data, metadata = shown._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)


_loaded: dict[int, tuple[ParallelMagics, Any, Cells | None]] = {}


def load(shell: InteractiveShell) -> None:
    """Load the magics into a shell, and adapt networks to notebooks."""
    if id(shell) in _loaded:
        return
    magics = ParallelMagics(shell)
    shell.register_magics(magics, ScriptMagics(shell, magics.find))
    tracebacks.install(shell)
    matcher = make_matcher(shell, magics.node_for_completion, magics.is_everywhere)
    shell.Completer.custom_matchers.append(matcher)
    cells = Cells(shell) if getattr(shell, "kernel", None) is not None else None
    if cells is not None:
        cells.install()
    _loaded[id(shell)] = magics, matcher, cells


def unload(shell: InteractiveShell) -> None:
    """Restore a shell to its state before `load`."""
    magics, matcher, cells = _loaded.pop(id(shell))
    magics.close()
    for kind, names in (
        ("line", ("px", "pxresult", "pxconfig", "autopx", "pxscript")),
        ("cell", ("px", "pxscript")),
    ):
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    shell.Completer.custom_matchers.remove(matcher)
    tracebacks.remove(shell)
    if cells is not None:
        cells.remove()

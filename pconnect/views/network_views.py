"""The methods of a network and of a single node on the client.

``net[1:]``, ``net[2]`` and ``net["alpha"]`` have them too. For a whole network or a part of it, they return a list in
the order of the nodes; for a single node, they return its value.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, SupportsIndex, TypeVar, overload

import numpy as np

from pconnect.commands.command import Command
from pconnect.commands.command_list import Commands
from pconnect.commands.table import Table, as_html
from pconnect.errors import ConfigurationError
from pconnect.files.code_sync import sync_code
from pconnect.link.connection import Connection
from pconnect.loop.network import Network
from pconnect.messaging.send_receive import Connections, resolve
from pconnect.protocol.kinds import Kind
from pconnect.session.octave_api import NodeFacts, network_get_info
from pconnect.session.remote_calls import call, call_service, client_mesh, run
from pconnect.session.restart import restart
from pconnect.session.server import Server
from pconnect.session.versions import Versions, versions
from pconnect.values.dtypes import joined
from pconnect.views.dashboard_views import PageViews
from pconnect.views.detach_views import DetachView
from pconnect.views.file_views import FileView
from pconnect.views.growth_views import GrowthView
from pconnect.views.job_views import JobView
from pconnect.views.node_table import of_nodes
from pconnect.views.program_views import ProgramView
from pconnect.views.resume_views import ResumeView

# The result of sending: one command for a node, one for each of several nodes.
Sent = TypeVar("Sent", bound=Command | Commands)


class View(JobView, ProgramView[Sent], Generic[Sent]):
    """The methods of both a network and a single node, on the client."""

    # --- running ---

    def eval(self, source: str, *, allow_pickle: bool = False, time_limit: float | None = None) -> Sent:
        r"""Run source text like `reval`, and return the value of its last expression.

        Parameters
        ----------
        source
            Python source text. If its last statement is an expression, its value is the result; otherwise the result is
            ``None``.
        allow_pickle
            Whether a value that cannot be sent otherwise is pickled. Unpickling runs code that the server chooses.
        time_limit
            As in `reval`.

        Returns
        -------
        Command or Commands
            ``result()`` waits for the value, and so does ``await``.

        Raises
        ------
        ConfigurationError
            `source` is not a string. Nothing was sent.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(2) as net:
        ...     net.eval("x = sockets.node\nx * 10").result(), net[1].eval("x").result()
        ([10, 20], 1)
        """
        sent: Sent = run(
            source, self._targets(), wants_value=True, allow_pickle=allow_pickle, time_limit=time_limit
        )
        return sent

    def apply(self, function: Callable[..., Any] | str, /, *args: object, **kwargs: object) -> Sent:
        """Call a function on each engine, with the same arguments.

        The function is sent by cloudpickle with everything it refers to; names that are not defined here are looked up
        in the engine's workspace. The arguments are read before this returns. For options, see `call`.

        Returns
        -------
        Command or Commands
            ``result()`` waits for the function's return value, and so does ``await``.

        Raises
        ------
        ConfigurationError
            The function or an argument cannot be sent. Nothing was sent.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(2) as net:
        ...     net.apply(lambda a, b: a + b, 1, b=2).result()
        [3, 3]
        """
        return self.call(function, args, kwargs)

    def call(
        self,
        function: Callable[..., Any] | str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        *,
        allow_pickle: bool = False,
        time_limit: float | None = None,
    ) -> Sent:
        """Call a function like `apply`, with the options of `eval`."""
        sent: Sent = call(
            function, args, kwargs or {}, self._targets(), allow_pickle=allow_pickle, time_limit=time_limit
        )
        return sent

    # --- moving ---

    def push(
        self, values: Mapping[str, object] | None = None, /, *, timeout: float | None = None, **more: object
    ) -> None:
        """Assign values to names in the workspaces.

        Parameters
        ----------
        values, **more
            Values by name, sent as by `apply`: arrays without a copy, encoded once for all nodes.
        timeout
            Limit for the whole call, in seconds.

        Raises
        ------
        ConfigurationError
            A name is not an identifier, or a value cannot be sent. Nothing was sent.
        TimeoutError
            The nodes were still busy; they will assign the values later.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(2) as net:
        ...     net.push({"a": 1}, b=2)
        ...     net["c"] = 3
        ...     net.pull(["a", "b", "c"])
        [[1, 2, 3], [1, 2, 3]]
        """
        names = {**(values or {}), **more}
        for name in names:
            check_name(name)
        call_service("workspace.update", [names], self._targets(), wants_value=False).result(timeout)

    def pull(self, names: str | Sequence[str], *, timeout: float | None = None) -> Any:
        """Return the values of names in the workspaces.

        Parameters
        ----------
        names
            One name, or several: then each node's answer is a list.
        timeout
            Limit for the whole call, in seconds.

        Raises
        ------
        RemoteError
            A name is not defined on a node (also a `NameError`), or its value cannot be sent.
        """
        for name in [names] if isinstance(names, str) else names:
            check_name(name)
        wanted = names if isinstance(names, str) else list(names)
        return _pull(wanted, self._targets()).result(timeout)

    def __setitem__(self, name: str, value: object) -> None:
        self.push({name: value})

    def scatter(self, name: str, values: Any, *, axis: int = 0, timeout: float | None = None) -> None:
        """Cut an array or a sequence into one part for each node, and assign each part to a name there.

        Parameters
        ----------
        name
            The name in the workspaces.
        values
            An array of shape ``(n0, ..., nk)``, cut along `axis` like `numpy.array_split`; or a sequence.
        timeout
            Limit for the whole call, in seconds.

        Examples
        --------
        >>> import numpy as np
        >>> from pconnect import local_network
        >>> with local_network(3) as net:
        ...     net.scatter("x", np.arange(7))
        ...     net.eval("x = x**2; len(x)").result(), net.gather("x")
        ([3, 2, 2], array([ 0,  1,  4,  9, 16, 25, 36]))
        """
        check_name(name)
        nodes = self._nodes()
        parts = np.array_split(values, len(nodes), axis) if isinstance(values, np.ndarray) else None
        commands = [
            call_service("workspace.update", [{name: part}], node, wants_value=False)
            for part, node in zip(parts or cut_evenly(values, len(nodes)), nodes, strict=True)
        ]
        Commands(f"scatter {name}", commands).result(timeout)

    def gather(self, name: str, *, axis: int = 0, timeout: float | None = None) -> Any:
        """Combine the parts that the nodes have under a name: arrays along `axis`, other values into one list."""
        check_name(name)
        commands = [_pull(name, node) for node in self._nodes()]
        parts = Commands(name, commands).result(timeout) or []
        if parts and all(isinstance(part, np.ndarray) for part in parts):
            return joined(parts, axis)
        return [item for part in parts for item in part]

    # --- looking and controlling ---

    def who(self, *, timeout: float | None = None) -> Table:
        """Return the contents of the workspaces: type, shape and size in bytes of each name, by node.

        Examples
        --------
        >>> import numpy as np
        >>> from pconnect import local_network
        >>> with local_network(1) as net:
        ...     net.push(a=np.zeros((2, 3)), n=1)
        ...     print(net.who())
        node  host   name  type     shape   bytes
           1  local  a     ndarray  (2, 3)     48
           1  local  n     int                 28
        """
        nodes = self._nodes()
        commands = [call_service("workspace.describe", [], node) for node in nodes]
        answers: list[list[list[object]]] = Commands("who", commands).result(timeout) or []
        rows: list[list[object]] = []
        for node, answer in zip(nodes, answers, strict=True):
            rows += [[node.node, node.host, *facts] for facts in answer]
        return Table(["node", "host", "name", "type", "shape", "bytes"], rows)

    def info(self, *, timeout: float = 5.0) -> Table:
        """Return live facts about the nodes as a table: state, load, memory, versions; see `network_get_info`.

        Parameters
        ----------
        timeout
            Seconds to wait for the servers' answers, which do not depend on the engines' work.

        Returns
        -------
        Table
            It prints aligned, and a notebook shows it as a table. The units are in the headings; ``load`` is the
            average over one minute, ``memory`` is the engine's, ``commands`` counts unfinished commands. The cells of
            unknown facts are empty.
        """
        network = (
            self if isinstance(self, Network) else Network(self._nodes()[0].mesh, [self._nodes()[0].node])
        )
        return NodeFacts(network_get_info(network, timeout=timeout)).table

    def interrupt(self) -> None:
        """Interrupt the running and waiting commands of these nodes, like Ctrl-C; never block.

        The commands fail with a `RemoteError` of type ``KeyboardInterrupt``. A second interrupt before they have ended
        kills the node's engine.
        """
        for server in self._servers():
            with server.guard:
                server.interrupt()

    def kill(self) -> None:
        """Kill the engines of these nodes with SIGKILL, whatever they are doing; never block.

        Their commands fail with an `EngineDiedError`, and their workspaces are lost. Other nodes are not affected.
        """
        for server in self._servers():
            with server.guard:
                server.kill()

    def restart(self, *, timeout: float = 30.0) -> None:
        """Give these nodes new engines; see `pconnect.restart`."""
        restart(self._targets(), timeout=timeout)

    def sync_code(self, path: str | Path, **options: Any) -> list[str]:
        """Make these engines import the current versions of the modules in a local folder, package or file.

        See `pconnect.files.code_sync.sync_code` for the options, the files that are sent, and the result.
        """
        return sync_code(path, self._targets(), **options)

    def versions(self, packages: Sequence[str] | None = None, **options: Any) -> Versions:
        """Return the versions of Python and packages; see `pconnect.session.versions.versions`."""
        return versions(self._targets(), packages, **options)

    # --- for the library ---

    def _targets(self) -> Connections:
        assert isinstance(self, Network | Connection)  # noqa: S101 - it is mixed into these alone
        return self

    def _nodes(self) -> list[Connection]:
        return resolve(self._targets())[1]

    def _servers(self) -> list[Server]:
        mesh, nodes = resolve(self._targets())
        mesh.check_open()
        return [client_mesh(mesh).servers[node.node] for node in nodes]


class ClientConnection(View[Command], FileView[str, Path], Connection):
    """One node of a network, as the client has it: ``net[2]``."""

    def _repr_html_(self) -> str:
        return as_html(repr(self), of_nodes([self]))


class ResumableConnection(ClientConnection):
    """A node to which another process may return: its engine keeps each sent value until the client confirms it."""

    def take_unfinished(self, tag: int) -> object:
        """See `pconnect.link.connection.Connection.take_unfinished`."""
        value = super().take_unfinished(tag)
        if isinstance(self.peer, Server) and self.peer.facts.get("orphan_seconds"):
            self.post(Kind.RECEIVED, tag)
            self.mesh.event_loop.flush(self)
        return value


class ClientNetwork(
    View[Commands], DetachView, ResumeView, GrowthView, PageViews, FileView[list[str], list[Path]], Network
):
    """The network that `pconnect` returns, or a part of it."""

    _make = ClientConnection, ResumableConnection

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[ClientConnection]: ...

    @overload
    def __getitem__(self, index: SupportsIndex) -> ClientConnection: ...
    @overload
    def __getitem__(self, index: str) -> "ClientConnection | ClientNetwork": ...
    @overload
    def __getitem__(self, index: slice | Iterable[int]) -> "ClientNetwork": ...
    def __getitem__(self, index: SupportsIndex | slice | Iterable[int] | str) -> Any:
        """Return a node by number or host name, or a part of the network, also for a host with several nodes."""
        if not isinstance(index, str):
            return super().__getitem__(index)
        chosen = [node.node for node in self if not node.is_own and _is_called(node.host, index)]
        if not chosen:
            known = ", ".join(dict.fromkeys(node.host for node in self if not node.is_own))
            raise KeyError(
                f"no node is on host {index!r} (known: {known}); for the value of a name, use pull({index!r})"
            )
        return self.mesh.connections[chosen[0]] if len(chosen) == 1 else type(self)(self.mesh, chosen)

    @property
    def missing(self) -> dict[str, Exception]:
        """The error of each host that `pconnect` could not connect, and that ``required`` allowed to be missing."""
        return dict(client_mesh(self.mesh).attendance.missing)

    def _repr_html_(self) -> str:
        return as_html(repr(self).split("\n", 1)[0], of_nodes(list(self)))

    def _ipython_key_completions_(self) -> list[str]:
        """Return the keys for completion in brackets after the network, for IPython."""
        return list(dict.fromkeys(node.host for node in self if not node.is_own))


def _is_called(host: str, name: str) -> bool:
    return host == name or host.rpartition(":")[0].strip("[]") == name


def _pull(names: str | list[str], connections: Connections) -> Any:
    shown = names if isinstance(names, str) else f"[{', '.join(names)}]"
    return call_service("workspace.pull", [names], connections, shown_as=shown)


def check_name(name: object) -> None:
    """Raise unless a value is the name of a variable."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigurationError(f"{name!r} is not a valid name for a workspace")


def cut_evenly(items: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """Cut a sequence like `numpy.array_split`.

    Examples
    --------
    >>> cut_evenly("abcdefg", 3)
    ['abc', 'de', 'fg']
    """
    size, more = divmod(len(items), count)
    borders = [index * size + min(index, more) for index in range(count + 1)]
    return [items[begin:end] for begin, end in itertools.pairwise(borders)]

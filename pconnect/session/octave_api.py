"""The calls of the client on whole nodes: `reval`, `rfeval`, `sclose`, `network_get_info`."""

import contextlib
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from pconnect.commands.command import Command
from pconnect.commands.command_list import Commands
from pconnect.commands.table import Table
from pconnect.errors import ConfigurationError
from pconnect.link.connection import Connection
from pconnect.loop.in_process import InProcess
from pconnect.loop.network import Network
from pconnect.messaging.send_receive import Connections, resolve
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.mesh_setup import current_folder
from pconnect.session.remote_calls import call, client_mesh, run
from pconnect.session.server import Server
from srp_tools.packages import distribution_version


@overload
def reval(source: str, connections: Connection, *, time_limit: float | None = None) -> Command: ...
@overload
def reval(
    source: str, connections: Network | Sequence[Connection], *, time_limit: float | None = None
) -> Commands: ...


@overload
def reval(source: str, connections: InProcess, *, time_limit: float | None = None) -> Any: ...


def reval(
    source: str, connections: Connections | InProcess, *, time_limit: float | None = None
) -> Command | Commands:
    """Run source text on the engines of nodes, each in its own workspace; return immediately.

    Commands of one node run in turn, in the order sent. The output of a command appears on the client, with the node's
    number and host at the start of each line, whenever the client is inside a call of this package.

    Parameters
    ----------
    source
        Python source text with one or more statements. Common indentation is removed.
    connections
        A network, a part of one, or a single connection; this node is skipped.
    time_limit
        Seconds that a command may run. Then it is interrupted and fails with a `TimeoutError`; if it does not end
        within five more seconds, its engine is killed. The server enforces this, whatever the client does.

    Returns
    -------
    Command or Commands
        One command for a single connection, otherwise one for each node. `Command.result` waits for the end. An error
        belongs to its command: `result` raises it, or, if the error is never retrieved, the next `precv` or
        `select_sockets` that would otherwise wait for that node.

    Raises
    ------
    ConfigurationError
        The call was made inside an engine, or `source` is not a string. Nothing was sent.

    Notes
    -----
    Counterpart of ``reval`` in GNU Octave's parallel package 4.0.2, which reports errors as "code 0".

    Examples
    --------
    >>> from pconnect import local_network, reval
    >>> with local_network(1) as net:
    ...     reval("x = 1", net).result()
    ...     try:
    ...         reval("x / 0", net).result()
    ...     except RuntimeError as error:
    ...         print(str(error).splitlines()[0])
    ZeroDivisionError on node 1 (local) in command 'x / 0'
    """
    if isinstance(connections, InProcess):
        ended: Command | Commands = connections.reval(source)
        return ended
    sent: Command | Commands = run(source, connections, time_limit=time_limit)
    return sent


def rfeval(
    function: Callable[..., Any] | str,
    *args: object,
    connection: Connection | InProcess,
    timeout: float | None = None,
) -> Any:
    """Call a function on an engine and wait for its result.

    Parameters
    ----------
    function
        A function, sent by cloudpickle with everything it refers to; or an expression of the engine's workspace, such
        as ``"np.linalg.svd"``.
    *args
        Its arguments: any supported values, or values that cloudpickle can send.
    connection
        The node.
    timeout
        Limit for the wait, in seconds; the function keeps running.

    Returns
    -------
    object
        The function's return value.

    Raises
    ------
    RemoteError
        The function, or sending its result, failed.
    ConfigurationError
        The function or its arguments cannot be pickled. Nothing was sent.

    Notes
    -----
    Counterpart of ``rfeval`` in GNU Octave's parallel package 4.0.2.

    Examples
    --------
    >>> from pconnect import local_network, rfeval
    >>> with local_network(1) as net:
    ...     rfeval("divmod", 17, 5, connection=net[1])
    (3, 2)
    """
    if isinstance(connection, InProcess):
        return connection.rfeval(function, args)
    if not isinstance(connection, Connection):
        raise ConfigurationError(
            f"rfeval calls a function on one node, not on {len(connection)}: index the network"
        )
    return call(function, args, {}, connection).result(timeout)


@contextlib.contextmanager
def quiet(connections: Connections | InProcess) -> Iterator[None]:
    r"""Do not show the output of commands sent inside a ``with`` block; `Command.stdout` has it.

    Output of commands sent before the block is shown; output of those inside is not, even after the block.

    Parameters
    ----------
    connections
        A network, a part of one, or a single connection: for commands on these nodes.

    Raises
    ------
    ConfigurationError
        The call was made inside an engine.

    Examples
    --------
    >>> from pconnect import local_network, quiet, reval
    >>> with local_network(1) as net:
    ...     with quiet(net):
    ...         command = reval("print('hello')", net[1])
    ...     command.result()
    ...     command.stdout
    'hello\n'
    """
    if isinstance(connections, InProcess):  # code in this process prints directly
        yield
        return
    mesh, targets = resolve(connections)
    quieted = client_mesh(mesh).console.quieted
    for target in targets:
        quieted[target.node] = quieted.get(target.node, 0) + 1
    try:
        yield
    finally:
        for target in targets:
            quieted[target.node] -= 1
            if not quieted[target.node]:
                del quieted[target.node]


def sclose(network: Network, *, timeout: float = 10.0) -> list[int]:
    """Close a network: end the engines and all connections.

    An idle engine ends immediately; a busy one is interrupted and, if it does not end within a second, killed. A closed
    network stays closed.

    Parameters
    ----------
    network
        The network; given a part, the whole network is closed.
    timeout
        Seconds to wait for the servers' reports; the connections are closed in any case.

    Returns
    -------
    list of int
        The nodes whose engine had to be killed, or that did not report; empty if the network was closed before.

    Raises
    ------
    ConfigurationError
        The call was made inside an engine.

    Notes
    -----
    Counterpart of ``sclose`` in GNU Octave's parallel package 4.0.2, which leaves busy servers running.
    """
    return network.close(timeout)


class NodeFacts(list[dict[str, Any]]):
    """A dict of facts for each node; it is displayed as a table."""

    @property
    def table(self) -> Table:
        """The most important facts, with units in the headings."""
        headings = [
            "node", "host", "state", "link", "pid", "cores", "load", "memory (MB)", "commands", "round trip (ms)",
            "python", "numpy", "pserver", "last error",
        ]  # fmt: skip
        return Table(headings, [_row(facts) for facts in self])

    def __repr__(self) -> str:
        return str(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def _row(facts: Mapping[str, Any]) -> list[Any]:
    known = [facts[name] for name in ("node", "host", "state", "transport", "pid", "cores")]
    load, size, seconds = facts["load"], facts["memory_bytes"], facts["round_trip"]
    return [
        *known,
        None if load is None else round(load, 2),
        None if size is None else round(size / 1e6),
        facts["queued"],
        None if seconds is None else round(seconds * 1e3, 1),
        *(facts[name] for name in ("python", "numpy", "version", "last_error")),
    ]


def network_get_info(network: Network, *, timeout: float = 5.0) -> list[dict[str, Any]]:
    """Return live facts about the nodes of a network.

    Parameters
    ----------
    network
        The network or a part of it.
    timeout
        Seconds to wait for the servers' answers, which do not depend on the engines' work.

    Returns
    -------
    list of dict
        It prints as a table, like ``net.info()``. One dict for each node: ``node``, ``host``, ``local`` (whether it is
        this node), ``state`` (``open``, ``died``: its engine, ``lost``: its server, ``silent``: no answer in time),
        ``encrypted``, ``transport`` (``unix``, ``tls`` or ``plain``: how data travels), ``pid`` of the engine,
        ``cores``, ``load`` (one minute's average), ``memory_bytes`` (of the engine), ``directory`` and
        ``directory_is_clients``, versions (``python``, ``numpy``, ``version``), ``address``, ``cmd_port``,
        ``data_port`` (the port in use for data), ``routes`` (a dict: the nodes with an unusual connection, and its
        route), ``queued`` (unfinished commands), ``last_error``, ``round_trip`` in seconds. Unknown facts are ``None``.

    Notes
    -----
    Counterpart of ``network_get_info`` in GNU Octave's parallel package 4.0.2, which reports the state at the start.
    """
    network.mesh.check_open()
    mesh = network.mesh
    if not isinstance(mesh, ClientMesh):
        return [own_facts(connection) for connection in network]  # a plain list, which a command can return
    answers = mesh.query(timeout)
    facts = NodeFacts()
    for connection in network:
        info = own_facts(connection)
        if (server := mesh.servers.get(connection.node)) is not None:
            live, round_trip = answers.get(connection.node, ({}, None))
            silent = server.state == "open" and not live
            live = {name: fact for name, fact in live.items() if name != "jobs"}  # see `JobView.statistics`
            info |= {name: fact for name, fact in server.facts.items() if name in _FACTS} | live
            info |= {
                "state": "silent" if silent else server.state,
                "address": server.location.address,
                "cmd_port": server.location.cmd_port or None,
                "data_port": server.location.used_port or None,
                "routes": _routes(server, mesh),
                "queued": len(server.running),
                "last_error": server.failures.last_error,
                "round_trip": round_trip,
            }
        facts.append(info)
    return facts


def _routes(server: Server, mesh: ClientMesh) -> dict[int, str]:
    """Return the nodes to which a node has an unusual connection, and the route of each."""
    found = {0: "through its command port"} if server.location.falls_back else {}
    found |= {int(node): how for node, how in server.facts.get("routes", {}).items()}
    keeper = mesh.mesh_setup and mesh.mesh_setup.routes
    return found | keeper.routes_of(server.node) if keeper else found


_FACTS = (
    "pid", "cores", "load", "memory_bytes", "directory", "directory_is_clients", "python", "numpy", "version",
    "address", "cmd_port", "data_port", "routes", "queued", "last_error", "round_trip",
)  # fmt: skip


def own_facts(connection: Connection) -> dict[str, Any]:
    """Return the facts about a node that need no question."""
    info: dict[str, Any] = {
        "node": connection.node,
        "host": connection.host,
        "local": connection.is_own,
        "state": "lost" if connection.error else "open",
        "encrypted": connection.encrypted,
        "transport": connection.transport,
    }
    info |= dict.fromkeys(_FACTS)
    if connection.is_own:
        info |= {"pid": os.getpid(), "cores": os.cpu_count(), "python": platform.python_version()}
        info |= {"directory": current_folder(), "version": distribution_version()}
    return info

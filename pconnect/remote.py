"""The calls of the client that concern whole nodes: `reval`, `rfeval`, `sclose`, `network_get_info`."""

import importlib.metadata
import inspect
import os
import platform
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pconnect.commands import ClientMesh, Command
from pconnect.connection import Connection
from pconnect.errors import ConfigurationError
from pconnect.network import Mesh, Network
from pconnect.primitives import MAX_TAG, Connections, precv, psend, resolve
from srp_tools.waiting import deadline_after, remaining


def reval(source: str, connections: Connections) -> Command:
    """Run source text at servers, each in the workspace of its engine; return at once.

    Commands of one node run one after the other, in the order sent. What a command prints appears at the client, with
    the node's number and host in front of each line, whenever the client is inside a call of this package.

    Parameters
    ----------
    source
        Python source text, one or more statements. Common indentation is removed.
    connections
        A network, a part of one, or a single connection; the own node of a network is skipped.

    Returns
    -------
    Command
        Its `Command.result` waits for the end. An error belongs to the command: it is raised there, or, if nobody asks,
        by the next `precv` or `select_sockets` that would otherwise wait for that node.

    Raises
    ------
    ConfigurationError
        It was called inside an engine, or `source` is no text. Nothing was sent.

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
    ZeroDivisionError at node 1 (127.0.0.1:...) in command 'x / 0'
    """
    mesh, targets = resolve(connections)
    mesh.check_open()
    if not isinstance(source, str):
        raise ConfigurationError(f"a command is source text, not {type(source).__name__}")
    return _client(mesh).command(textwrap.dedent(source), [target.node for target in targets])


def rfeval(
    function: Callable[..., Any] | str, *args: object, connection: Connection, timeout: float | None = None
) -> Any:
    """Call a function at a server and wait for its result.

    Parameters
    ----------
    function
        A name or expression that the engine's workspace knows, such as ``"np.linalg.svd"``; or a function, whose source
        text is sent (so it can use only what it imports itself and what the workspace has).
    *args
        Its arguments: any supported values.
    connection
        The node.
    timeout
        Limit in seconds for the whole call.

    Returns
    -------
    object
        What the function returned.

    Raises
    ------
    RemoteError
        The function, or sending its result, failed.
    ConfigurationError
        The source text of `function` is not to be had. Nothing was sent.

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
    deadline = deadline_after(timeout)
    mesh, targets = resolve(connection)
    if len(targets) != 1:
        raise ConfigurationError(
            f"a function is called at one node, not at {len(targets)}: index the network"
        )
    name, source = _source_of(function)
    tag = MAX_TAG + _client(mesh).next_tag()  # one of the library's own, so that no other value is taken
    call = f"(lambda a: psend(({name})(*a), sockets[0], tag={tag}))(precv(sockets[0], tag={tag}))"
    with mesh.progress.shielded:
        command = reval(f"{source}\n{call}", connection)
        psend(args, connection, tag=tag, timeout=remaining(deadline))
    command.result(remaining(deadline))
    return precv(connection, tag=tag, timeout=remaining(deadline))


def sclose(network: Network, *, timeout: float = 10.0) -> list[int]:
    """Close a network: end the engines and all connections.

    An idle engine ends at once; one that is busy is interrupted and, if it does not end within a second, killed.

    Parameters
    ----------
    network
        The network; of a part, the whole network is closed.
    timeout
        Seconds to wait for the servers' reports; the connections are closed in any case.

    Returns
    -------
    list of int
        The nodes whose engine had to be killed, or that did not report.

    Raises
    ------
    ConnectionLostError
        It was closed before.
    ConfigurationError
        It was called inside an engine.

    Notes
    -----
    Counterpart of ``sclose`` in GNU Octave's parallel package 4.0.2, which leaves busy servers running.
    """
    return network.close(timeout)


def network_get_info(network: Network, *, timeout: float = 5.0) -> list[dict[str, Any]]:
    """Return live facts about the nodes of a network.

    Parameters
    ----------
    network
        The network or a part of it.
    timeout
        Seconds to wait for the servers' answers, which do not depend on what the engines are doing.

    Returns
    -------
    list of dict
        One for each node: ``node``, ``host``, ``local`` (whether it is the own node), ``state`` (``open``, ``died``:
        its engine, ``lost``: its server, ``silent``: no answer in time), ``encrypted``, ``pid`` of the engine,
        ``cores``, ``load`` (one minute's average), ``memory_bytes`` (of the engine), ``directory`` and
        ``directory_is_clients``, versions (``python``, ``numpy``, ``version``), ``address``, ``cmd_port``,
        ``data_port``, ``queued`` (commands not yet done), ``last_error``, ``round_trip`` in seconds. What is not
        known is ``None``.

    Notes
    -----
    Counterpart of ``network_get_info`` in GNU Octave's parallel package 4.0.2, which tells what was so at the start.
    """
    network.mesh.check_open()
    mesh = network.mesh
    if not isinstance(mesh, ClientMesh):
        return [own_facts(connection) for connection in network]
    answers = mesh.query(timeout)
    facts = []
    for connection in network:
        info = own_facts(connection)
        if (server := mesh.servers.get(connection.node)) is not None:
            live, round_trip = answers.get(connection.node, ({}, None))
            silent = server.state == "open" and not live
            info |= server.facts | live
            info |= {
                "state": "silent" if silent else server.state,
                "address": server.address,
                "cmd_port": server.cmd_port,
                "data_port": server.offer["data_port"],
                "queued": len(server.running),
                "last_error": server.last_error,
                "round_trip": round_trip,
            }
        facts.append(info)
    return facts


_FACTS = (
    "pid", "cores", "load", "memory_bytes", "directory", "directory_is_clients", "python", "numpy", "version",
    "address", "cmd_port", "data_port", "queued", "last_error", "round_trip",
)  # fmt: skip


def own_facts(connection: Connection) -> dict[str, Any]:
    """Return what is known of a node without asking it."""
    info: dict[str, Any] = {
        "node": connection.node,
        "host": connection.host,
        "local": connection.is_own,
        "state": "lost" if connection.error else "open",
        "encrypted": connection.encrypted,
    }
    info |= dict.fromkeys(_FACTS)
    if connection.is_own:
        info |= {"pid": os.getpid(), "cores": os.cpu_count(), "python": platform.python_version()}
        info |= {"directory": str(Path.cwd()), "version": importlib.metadata.version("pserver")}
    return info


def _client(mesh: Mesh) -> ClientMesh:
    if not isinstance(mesh, ClientMesh):
        raise ConfigurationError("this is for the client of a network; an engine cannot send commands")
    return mesh


def _source_of(function: Callable[..., Any] | str) -> tuple[str, str]:
    """Return the name to call and the source text that defines it."""
    if isinstance(function, str):
        return function, ""
    name = getattr(function, "__name__", "")
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise ConfigurationError(
            f"the source text of {function!r} is not to be had: give the name under which the server knows it"
        ) from error
    if not name.isidentifier() or not source.startswith("def "):
        raise ConfigurationError(
            f"{function!r} is not a function made by 'def': give a name or an expression"
        )
    return name, source

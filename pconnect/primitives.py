"""The calls that move values, at the client and inside engines alike; and those of the client alone."""

import importlib.metadata
import inspect
import os
import platform
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pconnect.commands import ClientMesh, Command, interrupting
from pconnect.connection import Connection
from pconnect.errors import ConfigurationError, ConnectionLostError, ParallelError
from pconnect.frames import Kind
from pconnect.network import Mesh, Network
from pconnect.protocol import encode_message
from srp_tools.waiting import deadline_after, remaining

MAX_TAG = 2**31 - 1
Connections = Network | Connection | Sequence[Connection]


def psend(value: object, connections: Connections, *, tag: int = 0, timeout: float | None = None) -> None:
    """Send one value to every node in `connections`.

    The value is read before the call returns: changing it afterwards does not change what arrives. Values on one
    connection and tag arrive in the order sent. The own node, if contained in a network, is skipped. The call returns
    when the last byte has been handed to the operating system; meanwhile arriving messages are taken in, so two nodes
    may send to each other at once.

    Parameters
    ----------
    value
        Any supported value; arrays of shape ``(n0, ..., nk)`` and any dtype but object. A C- or Fortran-contiguous
        array is sent from its own memory, any other is copied once.
    connections
        A network, a part of one, or a single connection.
    tag
        Only a `precv` with the same tag receives it. 0 to 2**31 - 1.
    timeout
        Limit for the whole call, in seconds; ``None`` waits without limit.

    Raises
    ------
    UnsupportedValueError
        The value, or a part of it (the message names which), cannot be sent. Nothing was sent.
    MessageTooLargeError
        It is larger than the network's ``max_message_bytes``. Nothing was sent.
    ConnectionLostError
        A peer is gone. The other nodes have the value; that connection is closed, the others live on.
    TimeoutError
        The limit passed. What is not yet sent is kept and finished by the next calls: the value counts as sent.

    Notes
    -----
    Counterpart of ``psend`` in GNU Octave's parallel package 4.0.2, which blocks for ever when both sides send first.

    Examples
    --------
    >>> import numpy as np
    >>> from pconnect import local_network, precv, psend, reval
    >>> with local_network(2) as net:
    ...     command = reval("a = precv(sockets[0]); psend(a.sum(), sockets[0])", net)
    ...     psend(np.arange(10), net)
    ...     [int(precv(c)) for c in net[1:]]
    [45, 45]
    """
    mesh, targets = _resolve(connections)
    _check_tag(tag)
    buffers = encode_message(Kind.VALUE, tag, value, mesh.max_message_bytes)
    progress = mesh.progress
    try:
        with progress.shielded(), interrupting([target.peer for target in targets]):
            for target in targets:
                target.post_encoded(buffers)
                progress.flush(target)
            progress.run_until(
                lambda: not any(target.wants_to_write for target in targets),
                deadline_after(timeout),
                f"room to send to {_names(targets)}",
            )
    finally:
        for target in targets:
            if target.wants_to_write:
                target.keep_unsent()
    for target in targets:
        if target.error:
            raise _lost(target)


def precv(connection: Connection, *, tag: int = 0, timeout: float | None = None) -> Any:
    """Receive the next value that a node sent with this tag.

    Parameters
    ----------
    connection
        A single connection, such as ``net[2]`` or, in an engine, ``sockets[0]``.
    tag
        Only values sent with the same tag count.
    timeout
        Limit in seconds; ``None`` waits without limit.

    Returns
    -------
    object
        The value. Arrays are new and can be written to.

    Raises
    ------
    RemoteError
        At the client: a command of that node failed, nobody has asked for its error yet, and all values sent before it
        have been received. The connection lives on.
    ConnectionLostError
        The peer is gone and nothing with this tag is left to receive. The other connections live on.
    TimeoutError
        The limit passed; a value that arrives later is there for the next call.

    Notes
    -----
    Counterpart of ``precv`` in GNU Octave's parallel package 4.0.2, which has no limit of time and cannot be
    interrupted.

    Examples
    --------
    >>> from pconnect import local_network, precv, reval
    >>> with local_network(1) as net:
    ...     command = reval("psend({'x': (1, 2.5)}, sockets[0])", net)
    ...     precv(net[1])
    {'x': (1, 2.5)}
    """
    mesh, targets = _resolve(connection)
    if not isinstance(connection, Connection) and len(targets) != 1:
        raise ConfigurationError(
            f"a value is received from one node, not from {len(targets)}: index the network"
        )
    _check_tag(tag)
    target = targets[0]
    if not target.has_value(tag):
        mesh.check_open()

        def ready() -> bool:
            if target.has_value(tag):
                return True
            if target.error:
                raise _lost(target)
            target.peer.check()
            return False

        with interrupting([target.peer]):
            mesh.progress.run_until(ready, deadline_after(timeout), f"a value from {_names(targets)}")
    return target.take_value(tag)


def select_sockets(connections: Connections, timeout: float | None = None, *, tag: int = 0) -> list[int]:
    """Wait until a complete value has arrived from at least one of several nodes.

    Parameters
    ----------
    connections
        A network, a part of one, or a single connection.
    timeout
        Limit in seconds, fractions included; ``None`` waits without limit, 0 only looks.
    tag
        Only values sent with this tag count.

    Returns
    -------
    list of int
        Indices into `connections` of those from which `precv` returns at once; empty when the limit passed.

    Raises
    ------
    RemoteError
        At the client: as for `precv`, if no value is ready.
    ConnectionLostError
        No value is ready and a peer is gone. It is raised once for each peer; afterwards a lost peer is passed over,
        as long as there are others.

    Notes
    -----
    Counterpart of ``select_sockets`` in GNU Octave's parallel package 4.0.2, which takes fractions of a second for
    nanoseconds and sees values of which only the beginning has arrived.

    Examples
    --------
    >>> from pconnect import local_network, precv, reval, select_sockets
    >>> with local_network(2) as net:
    ...     command = reval("psend(1, sockets[0])", net[2])
    ...     select_sockets(net), select_sockets(net[1:]), precv(net[2])
    ([2], [1], 1)
    """
    mesh, targets = _resolve(connections)
    mesh.check_open()
    _check_tag(tag)
    members = [connections] if isinstance(connections, Connection) else list(connections)
    ready: list[int] = []

    def some_ready() -> bool:
        ready[:] = [index for index, member in enumerate(members) if member.has_value(tag)]
        if not ready:
            _check_each(targets)
        return bool(ready)

    progress = mesh.progress
    if timeout == 0:
        progress.poll(0)
    try:
        with interrupting([target.peer for target in targets]):
            progress.run_until(some_ready, deadline_after(timeout), f"a value from {_names(targets)}")
    except TimeoutError:
        return []
    return ready


def _check_each(targets: Sequence[Connection]) -> None:
    alive = 0
    for target in targets:
        if target.error is None:
            target.peer.check()
            alive += 1
        elif not target.error_seen:
            target.error_seen = True
            raise _lost(target)
    if not alive:
        raise _lost(targets[0])


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
    mesh, targets = _resolve(connections)
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
    mesh, targets = _resolve(connection)
    if len(targets) != 1:
        raise ConfigurationError(
            f"a function is called at one node, not at {len(targets)}: index the network"
        )
    name, source = _source_of(function)
    tag = MAX_TAG + _client(mesh).next_tag()  # one of the library's own, so that no other value is taken
    call = f"(lambda a: psend(({name})(*a), sockets[0], tag={tag}))(precv(sockets[0], tag={tag}))"
    with mesh.progress.shielded():
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
        One for each node: ``node``, ``host``, ``local`` (whether it is the own node), ``state`` (``open``, ``died``: its
        engine, ``lost``: its server, ``silent``: no answer in time), ``encrypted``, ``pid`` of the engine, ``cores``,
        ``load`` (one minute's average), ``memory_bytes`` (of the engine), ``directory`` and ``directory_is_clients``,
        versions (``python``, ``numpy``, ``version``), ``address``, ``cmd_port``, ``data_port``, ``queued`` (commands
        not yet done), ``last_error``, ``round_trip`` in seconds. What is not known is ``None``.

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
    "pid cores load memory_bytes directory directory_is_clients python numpy version address cmd_port data_port "
    "queued last_error round_trip"
).split()


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
        info |= {"directory": str(Path.cwd()), "version": package_version()}
    return info


def package_version() -> str:
    """Return the version of this package."""
    return importlib.metadata.version("pserver")


def _resolve(connections: Connections) -> tuple[Mesh, list[Connection]]:
    """Return the mesh and the real links among `connections`."""
    members = [connections] if isinstance(connections, Connection) else list(connections)
    if not members or not all(isinstance(member, Connection) for member in members):
        raise ConfigurationError(
            f"connections are a network, a part of one, or a connection, not {connections!r}"
        )
    mesh: Mesh = members[0].mesh
    if any(member.mesh is not mesh for member in members):
        raise ConfigurationError("these connections belong to more than one network")
    targets = [member for member in members if not member.is_own]
    if not targets and (isinstance(connections, Connection) or len(mesh.connections) > 1):
        raise ConfigurationError(f"node {mesh.node} is this node itself: choose another")
    return mesh, targets


def _client(mesh: Mesh) -> ClientMesh:
    if not isinstance(mesh, ClientMesh):
        raise ConfigurationError("this is for the client of a network; an engine cannot send commands")
    return mesh


def _check_tag(tag: int) -> None:
    if not 0 <= tag < 2**32:
        raise ConfigurationError(f"tag={tag}: a tag is a number from 0 to {MAX_TAG}")


def _names(targets: Sequence[Connection]) -> str:
    return ", ".join(f"node {target.node} ({target.host})" for target in targets[:5]) + (
        ", ..." if len(targets) > 5 else ""
    )


def _lost(target: Connection) -> ParallelError:
    assert target.error is not None  # noqa: S101 - asked only then
    error = target.peer.explain(target.error)
    if str(error) != str(target.error):
        return error
    return ConnectionLostError(f"node {target.node} ({target.host}) is lost: {error}")


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

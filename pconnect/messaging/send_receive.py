"""Send and receive values: `psend`, `precv`, `select_sockets`, on the client and in engines alike."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from pconnect.errors import ConfigurationError, ProtocolError
from pconnect.link.connection import Connection
from pconnect.link.queues import finished
from pconnect.loop.in_process import InProcess, no_messages
from pconnect.loop.interrupts import interrupting
from pconnect.loop.network import Mesh, Network
from pconnect.loop.progress_bars import receiving, sending
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Unfinished, encode_message
from pconnect.protocol.wait_states import Wait
from srp_tools.steps import deadline_after

MAX_TAG = 2**31 - 1
Connections = Network | Connection | Sequence[Connection]


def psend(value: object, connections: Connections, *, tag: int = 0, timeout: float | None = None) -> None:
    """Send one value to every node in `connections`.

    The value is read before the call returns: you may change it afterwards without affecting the receiver. Values with
    the same connection and tag arrive in the order sent. If `connections` is a network that contains this node, this
    node is skipped. The call returns when the operating system has accepted the last byte. Meanwhile it receives
    arriving messages, so two nodes may send to each other at the same time.

    Parameters
    ----------
    value
        Any supported value; arrays of shape ``(n0, ..., nk)`` with any dtype but object. C- and Fortran-contiguous
        arrays are sent from their own memory, other arrays are copied once.
    connections
        A network, a part of a network, or a single connection.
    tag
        A number from 0 to 2**31 - 1. Only a `precv` with the same tag receives the value.
    timeout
        Time limit for the whole call, in seconds; ``None`` waits without limit.

    Raises
    ------
    UnsupportedValueError
        The value, or the part of it that the message names, cannot be sent. Nothing was sent.
    MessageTooLargeError
        The value is larger than the network's ``max_message_bytes``. Nothing was sent.
    ConnectionLostError
        A peer is gone and its connection is closed. The other nodes have the value, and their connections remain
        usable.
    TimeoutError
        The call timed out. The rest of the value is kept, and later calls finish sending it: the value counts as sent.

    Notes
    -----
    Counterpart of ``psend`` in GNU Octave's parallel package 4.0.2, which blocks forever if both sides send first.

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
    mesh, targets = resolve(connections)
    _check_tag(tag)
    buffers = encode_message(Kind.VALUE, tag, value, mesh.limits.max_message_bytes)
    send_encoded(buffers, mesh, targets, timeout)


def send_encoded(
    buffers: Sequence[bytes | memoryview],
    mesh: Mesh,
    targets: Sequence[Connection],
    timeout: float | None = None,
) -> None:
    """Send an encoded message to some nodes of a network. Returns and raises like `psend`."""
    event_loop = mesh.event_loop
    event_loop.catch_up()
    generations = [target.generation for target in targets]

    def wait(is_sent: Callable[[], bool]) -> None:
        event_loop.run_until(
            is_sent,
            deadline_after(timeout),
            lambda: f"room to send to {names(targets)}",
            progress_bar=lambda: sending(targets, len(targets) * sum(map(len, buffers))),
        )

    with event_loop.sigint_deferred, interrupting([target.peer for target in targets]):
        event_loop.send_all(targets, buffers, wait)
    for target, before in zip(targets, generations, strict=True):
        if target.error:
            raise target.account()
        target.check_generation(before)


def precv(connection: Connection, *, tag: int = 0, timeout: float | None = None) -> Any:
    """Receive the next value that a node sent with this tag.

    Parameters
    ----------
    connection
        A single connection, such as ``net[2]`` or, in an engine, ``sockets[0]``.
    tag
        Only values sent with the same tag are received.
    timeout
        Time limit in seconds, including the time to decode a large value; ``None`` waits without limit, 0 returns only
        a value that has already arrived.

    Returns
    -------
    object
        The value. Arrays are new and writable.

    Raises
    ------
    RemoteError
        On the client: a command of that node failed, its error has not been retrieved yet, and all values sent before
        it have been received. The connection remains usable.
    UnreadableValueError
        The value arrived but cannot be decoded here. An `UnavailableTypeError` says what is missing. The value is lost;
        the connection and later values are not affected.
    ConnectionLostError
        The peer is gone, and no value with this tag is left. The other connections remain usable.
    DeadlockError
        No node can make progress: the peer waits, directly or through other nodes, for this node. All connections
        remain usable.
    InboxFullError
        So many values with other tags are waiting that nothing more is read from this node. Receive those first.
    TimeoutError
        The call timed out. A value that arrives later, or was being decoded, is available to the next call.
    KeyboardInterrupt
        Ctrl-C. The network remains usable. A value that was being decoded, which takes long only if it has very many
        items, is lost.

    Notes
    -----
    Counterpart of ``precv`` in GNU Octave's parallel package 4.0.2, which has no time limit and cannot be interrupted.

    Examples
    --------
    >>> from pconnect import local_network, precv, reval
    >>> with local_network(1) as net:
    ...     command = reval("psend({'x': (1, 2.5)}, sockets[0])", net)
    ...     precv(net[1])
    {'x': (1, 2.5)}
    """
    mesh, targets = resolve(connection)
    if not isinstance(connection, Connection) and len(targets) != 1:
        raise ConfigurationError(
            f"a value is received from one node, but these are {len(targets)}: index the network"
        )
    _check_tag(tag)
    target, deadline = targets[0], deadline_after(timeout)
    # After the wait, no other thread may take the value, and Ctrl-C must not interrupt taking it.
    with interrupting([target.peer]), mesh.event_loop.sigint_deferred:
        mesh.event_loop.catch_up()
        if not target.has_value(tag):
            mesh.check_open()
            before = target.generation

            def ready() -> bool:
                target.check_generation(before)
                if target.has_value(tag):
                    return True
                if target.error:
                    raise target.account()
                target.peer.check()
                target.check_inbox()
                return False

            mesh.event_loop.run_until(
                ready,
                deadline,
                lambda: f"a value from {names(targets)}",
                lambda: Wait("precv", (target.node,), tag=tag),
                progress_bar=lambda: receiving([target]),
            )
        value = target.take_unfinished(tag)
    return value if type(value) is not Unfinished else _make(value, target, tag, timeout, deadline)


def _make(value: Unfinished, target: Connection, tag: int, timeout: float | None, deadline: float) -> Any:
    """Decode a value that was taken from the inbox. If the deadline passes, put it back for the next call."""
    event_loop = target.mesh.event_loop
    try:
        # A timeout of 0 means not to wait for arrival; a value that has arrived is decoded in any case.
        return finished(value, math.inf if timeout == 0 else deadline)
    except ProtocolError as error:
        event_loop.lose(target, error)
        raise target.account() from error
    except TimeoutError:
        with event_loop.sigint_deferred:
            target.put_back(tag, value)
        raise


def select_sockets(connections: Connections, timeout: float | None = None, *, tag: int = 0) -> list[int]:
    """Wait until a complete value has arrived from at least one of several nodes.

    Parameters
    ----------
    connections
        A network, a part of a network, or a single connection.
    timeout
        Time limit in seconds, which may be a fraction; ``None`` or a negative number waits without limit, 0 does not
        wait.
    tag
        Only values sent with this tag count.

    Returns
    -------
    list of int
        Indices into `connections` of the nodes from which `precv` returns immediately; empty after a timeout.

    Raises
    ------
    RemoteError
        On the client: as for `precv`, if no value is ready.
    InboxFullError
        No value is ready, and none can arrive, because of waiting values with other tags.
    DeadlockError
        As for `precv`.
    ConnectionLostError
        No value is ready and a peer is gone. Raised once for each peer; afterwards a lost peer is ignored, unless all
        peers are lost.

    Notes
    -----
    Counterpart of ``select_sockets`` in GNU Octave's parallel package 4.0.2, which takes fractions of a second for
    nanoseconds, and reports values of which only the beginning has arrived.

    Examples
    --------
    >>> from pconnect import local_network, precv, reval, select_sockets
    >>> with local_network(2) as net:
    ...     command = reval("psend(1, sockets[0])", net[2])
    ...     select_sockets(net), select_sockets(net[1:]), precv(net[2])
    ([2], [1], 1)
    """
    mesh, targets = resolve(connections)
    mesh.check_open()
    _check_tag(tag)
    members = [connections] if isinstance(connections, Connection) else list(connections)
    ready: list[int] = []
    event_loop = mesh.event_loop
    try:
        with interrupting([target.peer for target in targets]), event_loop.sigint_deferred:
            event_loop.catch_up()
            generations = [target.generation for target in targets]

            def some_ready() -> bool:
                ready[:] = [index for index, member in enumerate(members) if member.has_value(tag)]
                if not ready:
                    for target, before in zip(targets, generations, strict=True):
                        target.check_generation(before)
                    _check_each(targets)
                return bool(ready)

            if timeout == 0:
                event_loop.poll(0)
            event_loop.run_until(
                some_ready,
                # Programs from Octave pass -1 to wait without limit.
                deadline_after(None if timeout is None or timeout < 0 else timeout),
                lambda: f"a value from {names(targets)}",
                # Lost connections were reported before; otherwise this would not wait.
                lambda: Wait("select_sockets", tuple(t.node for t in targets if t.error is None), tag=tag),
            )
    except TimeoutError:
        return []
    return ready


def _check_each(targets: Sequence[Connection]) -> None:
    alive = [target for target in targets if target.error is None]
    for target in targets:
        if target.error is None:
            target.peer.check()
        elif not target.life.was_reported:
            target.life.was_reported = True
            raise target.account()
    if not alive:
        raise targets[0].account()
    if not any(target.wants_to_read for target in alive):
        alive[0].check_inbox()


def resolve(connections: Connections) -> tuple[Mesh, list[Connection]]:
    """Return the mesh and the links to other nodes in `connections`.

    Raises `ConfigurationError` if these are not connections, belong to several networks, or are only this node. Raises
    `ConnectionLostError` if a node was removed from the network.
    """
    if isinstance(connections, Connection) and not connections.is_own:
        if connections.mesh.removed:
            connections.mesh.check_there(connections.node)
        return connections.mesh, [connections]
    if isinstance(connections, InProcess):
        raise no_messages()
    members = [connections] if isinstance(connections, Connection) else list(connections)
    if not members or not all(isinstance(member, Connection) for member in members):
        raise ConfigurationError(
            f"connections must be a network, a part of one, or a connection, not {connections!r}"
        )
    mesh: Mesh = members[0].mesh
    if any(member.mesh is not mesh for member in members):
        raise ConfigurationError("these connections belong to more than one network")
    targets = [member for member in members if not member.is_own]
    if mesh.removed:
        for target in targets:
            mesh.check_there(target.node)
    if not targets and (isinstance(connections, Connection) or len(mesh.members) > 1):
        raise ConfigurationError(f"node {mesh.node} is this node itself: choose another")
    return mesh, targets


def _check_tag(tag: int) -> None:
    if not 0 <= tag < 2**32:
        raise ConfigurationError(f"tag={tag}: a tag must be a number from 0 to {MAX_TAG}")


def names(targets: Sequence[Connection]) -> str:
    """Return the names of some nodes for an error message."""
    return ", ".join(f"node {target.node} ({target.host})" for target in targets[:5]) + (
        ", ..." if len(targets) > 5 else ""
    )

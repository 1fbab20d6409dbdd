"""Collective calls, which every member of a network, or of a part of one, makes: the client and engines alike.

All members must make the same calls in the same order, as in MPI. Names and meanings are those of mpi4py's lower-case
methods, with ``network`` instead of the communicator; ``axis`` is an addition. ``root`` is an index into the network. A
call returns only when every member has its result, and a failure on one member is raised on all of them:

ConfigurationError
    This node is not a member, or an argument is invalid. If this node is a member, the call fails on all members.
UnsupportedValueError, MessageTooLargeError
    A value cannot be sent. The call fails on all members.
CollectiveError
    Another member failed, or made another call. All connections remain usable.
RemoteError
    On the client, instead of the above: the command of a member failed. Contains its traceback.
ConnectionLostError, EngineDiedError
    A member is gone; the message names it. The other connections remain usable.
TimeoutError
    The call timed out; the message names the missing members. The call fails on all members.
KeyboardInterrupt
    The user pressed Ctrl-C. The call fails on all members; on the client, their commands are interrupted too.

After any of these errors, the members can make no collective calls until the client's next `reval` begins a new epoch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pconnect.errors import ConfigurationError
from pconnect.loop.network import Network
from pconnect.messaging import broadcast_algorithm, exchange
from pconnect.messaging.collective_call import Call, collective
from pconnect.messaging.reduce_algorithm import copied, find_operator, reduce_to
from pconnect.values.dtypes import joined

__all__ = ["allgather", "allreduce", "alltoall", "barrier", "bcast", "gather", "reduce", "scatter"]

Op = str | Callable[[Any, Any], Any]


def barrier(network: Network, *, timeout: float | None = None) -> None:
    """Wait until all members have made this call.

    Parameters
    ----------
    network
        The members: a network or a part of one that contains this node; the same nodes in the same order everywhere.
    timeout
        Time limit for the whole call, in seconds; ``None`` waits without limit.

    Raises
    ------
    CollectiveError, ConnectionLostError, TimeoutError, ...
        See :mod:`pconnect.messaging.collectives`. Raised on all members; connections to live members remain usable.

    Examples
    --------
    >>> from pconnect import barrier, local_network, reval
    >>> with local_network(2) as net:
    ...     command = reval("barrier(sockets)", net)
    ...     barrier(net)
    """
    with collective(network, "barrier", timeout):
        pass


def bcast(value: object, network: Network, *, root: int = 0, timeout: float | None = None) -> Any:
    """Return the root's value on every member.

    Large arrays leave the root only once: the other members pass parts of them on to each other.

    Parameters
    ----------
    value
        On the root, any supported value. On other members it is ignored, so ``None`` will do.
    network, timeout
        As for `barrier`.
    root
        Index into `network` of the member that provides the value.

    Returns
    -------
    object
        On the root, `value` itself; on other members, a new object.

    Raises
    ------
    CollectiveError, ConnectionLostError, TimeoutError, ...
        See :mod:`pconnect.messaging.collectives`.

    Examples
    --------
    >>> from pconnect import bcast, local_network, reval
    >>> with local_network(2) as net:
    ...     command = reval("bcast(10 * sockets.node, sockets, root=2)", net)
    ...     bcast(None, net, root=2)
    20
    """
    with collective(network, "bcast", timeout) as call:
        rank = call.agree_on_root(root)
        return broadcast_algorithm.broadcast(call, rank, value)


def scatter(
    values: Any, network: Network, *, root: int = 0, axis: int | None = None, timeout: float | None = None
) -> Any:
    """Return, on each member, its item of the root's sequence or its part of the root's array.

    Parameters
    ----------
    values
        On the root, a sequence with one item for each member; with `axis`, an array, which is cut along this axis like
        ``numpy.array_split``. On other members it is ignored, so ``None`` will do.
    network, timeout
        As for `barrier`.
    root
        Index into `network` of the member that provides the values.
    axis
        Axis along which to cut the array; ``None`` distributes items. Must be the same on all members.

    Returns
    -------
    object
        This member's part. A new object, also on the root.

    Raises
    ------
    CollectiveError, ConnectionLostError, TimeoutError, ...
        See :mod:`pconnect.messaging.collectives`.

    Examples
    --------
    >>> from pconnect import local_network, reval, scatter
    >>> with local_network(2) as net:
    ...     command = reval("part = scatter(None, sockets, axis=0)", net)
    ...     scatter(np.arange(8), net, axis=0)
    array([0, 1, 2])
    """
    with collective(network, "scatter", timeout) as call:
        rank = call.agree_on_root(root)
        call.agree(axis=axis)
        if call.rank != rank:
            part = exchange.scatter(call, rank, None)
        else:
            parts = _items(call, values) if axis is None else _cut(call, values, axis)
            part = copied(exchange.scatter(call, rank, parts))
    return part


def gather(
    value: object, network: Network, *, root: int = 0, axis: int | None = None, timeout: float | None = None
) -> Any:
    """Collect the values of all members on the root.

    Parameters
    ----------
    value
        Any supported value; with `axis`, an array.
    network, timeout
        As for `barrier`.
    root
        Index into `network` of the member that receives them.
    axis
        Axis along which to join arrays, like ``numpy.concatenate``; ``None`` returns a list. Must be the same on all
        members.

    Returns
    -------
    list or array
        On the root, the values in the order of the members; on other members, ``None``.

    Raises
    ------
    CollectiveError, ConnectionLostError, TimeoutError, ...
        See :mod:`pconnect.messaging.collectives`.

    Examples
    --------
    >>> from pconnect import gather, local_network, reval
    >>> with local_network(2) as net:
    ...     command = reval("gather('engine', sockets)", net)
    ...     gather("client", net)
    ['client', 'engine', 'engine']
    """
    with collective(network, "gather", timeout) as call:
        rank = call.agree_on_root(root)
        call.agree(axis=axis)
        found = exchange.gather(call, rank, copied(value) if call.rank == rank else value)
        return None if found is None else _join(found, axis)


def allgather(
    value: object, network: Network, *, axis: int | None = None, timeout: float | None = None
) -> Any:
    """Collect the values of all members on every member.

    Parameters
    ----------
    value
        Any supported value; with `axis`, an array.
    network, timeout
        As for `barrier`.
    axis
        As for `gather`.

    Returns
    -------
    list or array
        The values in the order of the members.

    Raises
    ------
    CollectiveError, ConnectionLostError, TimeoutError, ...
        See :mod:`pconnect.messaging.collectives`.

    Examples
    --------
    >>> from pconnect import allgather, local_network, reval
    >>> with local_network(2) as net:
    ...     command = reval("allgather(np.full(2, sockets.node), sockets, axis=0)", net)
    ...     allgather(np.zeros(1), net, axis=0)
    array([0., 1., 1., 2., 2.])
    """
    with collective(network, "allgather", timeout) as call:
        call.agree(axis=axis)
        return _join(exchange.allgather(call, copied(value)), axis)


def alltoall(values: Any, network: Network, *, timeout: float | None = None) -> list[Any]:
    """Send one item to each member, and return the items that all members sent to this one.

    Parameters
    ----------
    values
        A sequence with one item for each member.
    network, timeout
        As for `barrier`.

    Returns
    -------
    list
        The items from all members, in the order of the members.

    Raises
    ------
    CollectiveError, ConnectionLostError, TimeoutError, ...
        See :mod:`pconnect.messaging.collectives`.

    Examples
    --------
    >>> from pconnect import alltoall, local_network, reval
    >>> with local_network(2) as net:
    ...     command = reval("alltoall([f'{sockets.node} to {k}' for k in range(3)], sockets)", net)
    ...     alltoall("abc", net)
    ['a', '1 to 0', '2 to 0']
    """
    with collective(network, "alltoall", timeout) as call:
        items = _items(call, values)
        for other in call.others:
            call.post([other], items[other])
        return list(call.in_rank_order(copied(items[call.rank]), call.size))


def reduce(
    value: object, network: Network, *, op: Op = "sum", root: int = 0, timeout: float | None = None
) -> Any:
    """Combine the values of all members on the root.

    The values are combined in the order of the members, ``((x0 op x1) op x2) ...``, so the result equals a numpy loop
    over them to the last bit.

    Parameters
    ----------
    value
        An array with the same shape and dtype on all members, or any supported values that `op` can combine.
    network, timeout
        As for `barrier`.
    op
        ``"sum"`` and ``"prod"`` mean ``+`` and ``*`` (so lists are concatenated). ``"min"`` and ``"max"`` are numpy's
        for arrays and numpy scalars, and Python's for all other values. Or a function of two values, or its (dotted)
        name in ``__main__``, which is the workspace in an engine. Functions are not sent.
    root
        Index into `network` of the member that receives the result.

    Returns
    -------
    object
        On the root, the result as a new object; on other members, ``None``. The operator determines the dtype.

    Raises
    ------
    CollectiveError, ConnectionLostError, TimeoutError, ...
        See :mod:`pconnect.messaging.collectives`. If arrays differ in shape or dtype, the message names two members
        and their arrays.

    Examples
    --------
    >>> from pconnect import local_network, reduce, reval
    >>> with local_network(2) as net:
    ...     command = reval("reduce(np.array([sockets.node, 5]), sockets, op='max')", net)
    ...     reduce(np.array([0, 7]), net, op="max")
    array([2, 7])
    """
    with collective(network, "reduce", timeout) as call:
        rank = call.agree_on_root(root)
        return reduce_to(call, find_operator(op), value, rank)


def allreduce(value: object, network: Network, *, op: Op = "sum", timeout: float | None = None) -> Any:
    """Combine the values of all members, and return the result on every member.

    Parameters
    ----------
    value, network, op, timeout
        As for `reduce`.

    Returns
    -------
    object
        The result as a new object, identical on all members to the last bit.

    Raises
    ------
    CollectiveError, ConnectionLostError, TimeoutError, ...
        As for `reduce`.

    Examples
    --------
    >>> from pconnect import allreduce, local_network, reval
    >>> with local_network(2) as net:
    ...     command = reval("total = allreduce(np.ones(3), sockets)", net)
    ...     allreduce(np.zeros(3), net)
    array([2., 2., 2.])
    """
    with collective(network, "allreduce", timeout) as call:
        return reduce_to(call, find_operator(op), value, None)


def _items(call: Call, values: Any) -> list[Any]:
    items = list(values)
    if len(items) != call.size:
        raise ConfigurationError(
            f"{call} needs a sequence of {call.size} items, one for each member, but got {len(items)} items"
        )
    return items


def _cut(call: Call, values: Any, axis: int) -> list[Any]:
    return np.array_split(np.asanyarray(values), call.size, axis)


def _join(values: Any, axis: int | None) -> Any:
    parts = list(values)
    return parts if axis is None else joined(parts, axis)

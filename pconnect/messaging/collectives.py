"""Collective calls, made by every member of a network or of a part of one, at the client and in engines alike.

Each call is made by all its members, in the same order, as in MPI; the names and their meaning are those of mpi4py's
lower-case methods, with ``network`` in the place of the communicator; mpi4py has no ``axis``. ``root`` is an index into
the network. A call returns only when every member has what it is to get, and what fails at one member is raised at all
of them:

ConfigurationError
    This node is no member, or an argument is of no use. If this node is a member, the call fails at all.
UnsupportedValueError, MessageTooLargeError
    A value cannot be sent. The call fails at all members.
CollectiveError
    Another member failed, or called something else. All connections live on.
RemoteError
    At the client, instead of the above: the command of a member failed, with its traceback.
ConnectionLostError, EngineDiedError
    A member is gone; the text says which. The other connections live on.
TimeoutError
    The limit passed; the text says who was waited for. The call fails at all members.
KeyboardInterrupt
    The user pressed Ctrl-C. The call fails at all members; at the client, their commands are interrupted too.

After each of these the members make no more collective calls until the client's next `reval`, which begins anew.
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
    """Return when all members have made this call.

    Parameters
    ----------
    network
        The members: a network or a part of one with the own node in it; the same nodes in the same order everywhere.
    timeout
        Limit for the whole call, in seconds; ``None`` waits without limit.

    Raises
    ------
    CollectiveError, ConnectionLostError, TimeoutError, ...
        See :mod:`pconnect.messaging.collectives`: raised at all members; the connections to those that live are usable.

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
    """Return the root's value at every member.

    Large arrays leave the root once: the other members pass on parts of it to each other.

    Parameters
    ----------
    value
        At the root any supported value; elsewhere it is not looked at, so ``None`` will do.
    network, timeout
        As for `barrier`.
    root
        Index into `network` of the member whose value it is.

    Returns
    -------
    object
        At the root `value` itself, elsewhere a new one.

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
    """Return at each member its item of the root's sequence, or its part of the root's array.

    Parameters
    ----------
    values
        At the root a sequence with one item for each member; with `axis` an array, which is cut along this axis as by
        ``numpy.array_split``. Elsewhere it is not looked at, so ``None`` will do.
    network, timeout
        As for `barrier`.
    root
        Index into `network` of the member whose values they are.
    axis
        Along which to cut; ``None`` takes items. The same at all members.

    Returns
    -------
    object
        The own part, a new object also at the root.

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
    """Return the values of all members at the root.

    Parameters
    ----------
    value
        Any supported value; with `axis` an array.
    network, timeout
        As for `barrier`.
    root
        Index into `network` of the member that gets them.
    axis
        Along which to join arrays as ``numpy.concatenate`` does; ``None`` makes a list. The same at all members.

    Returns
    -------
    list or array
        At the root the values in the order of the members, elsewhere ``None``.

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
    """Return the values of all members at every member.

    Parameters
    ----------
    value
        Any supported value; with `axis` an array.
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
    """Give each member one item, and return what all members gave to this one.

    Parameters
    ----------
    values
        A sequence with one item for each member.
    network, timeout
        As for `barrier`.

    Returns
    -------
    list
        What each member had for this one, in the order of the members.

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
    """Combine the values of all members at the root.

    Values are combined in the order of the members, ``((x0 op x1) op x2) ...``, so the result is the same to the last
    bit as that of numpy in a loop.

    Parameters
    ----------
    value
        An array, of the same shape and dtype at all members; or any supported values that `op` can combine.
    network, timeout
        As for `barrier`.
    op
        ``"sum"`` and ``"prod"`` are ``+`` and ``*`` (so lists are joined), ``"min"`` and ``"max"`` numpy's of arrays
        and numpy scalars, and Python's of all else. Or a function of two values, or its (dotted) name in the process's
        ``__main__``, which in an engine is the workspace. No function is sent.
    root
        Index into `network` of the member that gets the result.

    Returns
    -------
    object
        At the root the result, a new object; elsewhere ``None``. The dtype is that which the operator gives.

    Raises
    ------
    CollectiveError, ConnectionLostError, TimeoutError, ...
        See :mod:`pconnect.messaging.collectives`. If arrays differ in shape or dtype, the text names two members and
        both.

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
    """Combine the values of all members, and return the result at every one.

    Parameters
    ----------
    value, network, op, timeout
        As for `reduce`.

    Returns
    -------
    object
        The result, a new object, to the last bit the same at all members.

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
            f"{call} needs a sequence of {call.size} items, one for each member, not of {len(items)}"
        )
    return items


def _cut(call: Call, values: Any, axis: int) -> list[Any]:
    return np.array_split(np.asanyarray(values), call.size, axis)


def _join(values: Any, axis: int | None) -> Any:
    parts = list(values)
    return parts if axis is None else joined(parts, axis)

"""The methods of networks and single nodes that call a function for each of many items: `map` and `pmap`."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Any

from pconnect.errors import ConfigurationError
from pconnect.executors.executor import Executor
from pconnect.executors.job_map import map_jobs
from pconnect.executors.pmap import pmap
from pconnect.jobs.job import JobOptions
from pconnect.jobs.seeds import Seeds
from pconnect.link.connection import Connection
from pconnect.loop.network import Network
from pconnect.session.remote_calls import mesh_of


class MapView:
    """The methods for maps of a network and a single node, on the client."""

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
        """Call a function for each item, in worker processes; yield the results as they arrive.

        The iterables may be endless: only as many items are taken in advance as keep the workers busy. If you stop
        taking results, the jobs in progress are cancelled. `detach` submits the jobs of all remaining items, or raises
        an error if the iterables have no length, such as generators.

        Parameters
        ----------
        function
            See `submit`.
        *iterables
            As for the built-in ``map``: with several iterables, the function gets one item of each.
        ordered
            Whether to yield the results in the order of the items; otherwise as they arrive.
        chunksize
            ``"auto"``: each item is a job, and as many jobs are sent together as keep a worker busy, which is measured
            continuously. A number: this many items are one job, which fails, is lost and runs again as a whole.
        on_error
            ``"raise"``: the first error ends the map. ``"return"``: an error takes the place of its result.
        retries, time_limit, allow_pickle, max_workers
            See `executor`.
        seed
            Seed for the random numbers of `pconnect.rng`, ``numpy.random`` and ``random``: the k-th item draws the same
            numbers in every run of the program, with any number of workers and any `chunksize`.
        on
            The number of a node, or several: run only there.

        Yields
        ------
        object
            The results.

        Raises
        ------
        RemoteError, JobLostError
            The function failed, or its process was lost; all other jobs of this map were cancelled.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(2) as net:
        ...     list(net.map(pow, [2, 3, 4], [5, 2, 1]))
        [32, 9, 4]
        """
        options = JobOptions(
            retries=retries, time_limit=time_limit, allow_pickle=allow_pickle, on=nodes_of(self, on)
        )
        executor = Executor(mesh_of(self), options, seeds_of(self, seed), max_workers=max_workers)
        return map_jobs(
            executor, function, iterables, ordered=ordered, chunksize=chunksize, on_error=on_error
        )

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
        """Call a function for each element of arrays or lists, and wait for all results.

        Parameters
        ----------
        function
            See `submit`. If it returns tuples, there is one result for each position in them.
        *inputs
            Arrays, lists or other collections of the same shape. An input with a single element, or a number, is used
            for all calls.
        uniform_output
            Whether each result is a single value, and the results form an array of the inputs' shape. numpy decides
            about its dtype, but numbers do not become text. Otherwise the results are returned as a list or, unless
            the inputs have one axis, as an array of objects.
        error_handler
            Called on the client as ``error_handler(failure, *elements)`` for each element that failed; its return value
            replaces the result. `failure` has ``index`` (through the whole input), ``message``, ``identifier`` and
            ``traceback``.
        chunksize, retries, time_limit, allow_pickle, seed, max_workers
            See `map`.
        vectorized
            Whether the function gets chunks of the inputs along axis 0, as arrays, and returns an array or list of the
            same length, or a tuple of them; the results are joined along axis 0. The inputs are converted to arrays,
            and need the same length but not the same shape. An input with a single element is passed to each call.
            `chunksize` is the length of a chunk; ``"auto"`` makes four chunks for each slot. In the error handler,
            ``failure.index`` is the slice of the chunk, the elements are the chunks, and the return value replaces the
            whole result of the chunk. With a `seed`, the k-th chunk draws the k-th stream, and ``"auto"`` makes up to
            64 chunks of equal length on every cluster.
        reduce
            Called on the client as ``reduce(total, result)`` while results arrive; ``pmap`` returns the last total.
            The first total is the first result. If the function returns tuples, totals and results are tuples. With
            `vectorized`, the results are those of chunks, and may have any length. No result is kept after it was
            combined; at most 4096 jobs are ahead of the one that is combined next. If jobs take longer than 6 ms, it is
            two for each slot, at least 32.
        ordered
            Whether `reduce` combines in the order of the inputs, first to last: the same total as that of
            `functools.reduce` in one process, to the last bit. Otherwise it combines in the order in which the results
            arrive, which differs from run to run: a slow element delays nothing, but the total is reproducible only if
            `reduce` is associative and commutative, which floating-point addition is not.

        Raises
        ------
        JobFailure
            The function failed for an element, and there is no error handler. All other jobs were cancelled; so they
            are if `reduce` or `error_handler` raises.
        ConfigurationError
            The inputs have no length or do not match, the results are not uniform, the result of a chunk has another
            length than the chunk, or `reduce` was given and the inputs are empty.

        Notes
        -----
        Counterpart of ``parcellfun``, ``pararrayfun`` and ``netcellfun`` in GNU Octave's parallel package 4.0.2.

        Examples
        --------
        >>> import math
        >>> from pconnect import local_network
        >>> with local_network(2) as net:
        ...     net.pmap(math.sqrt, [4.0, 9.0, -1.0], error_handler=lambda failure, x: -failure.index)
        array([ 2.,  3., -2.])

        Whole chunks, and a sum of the results that never holds all of them:

        >>> import numpy as np
        >>> with local_network(2) as net:
        ...     squares = net.pmap(np.square, np.arange(6), vectorized=True)
        ...     total = net.pmap(np.square, range(1, 1001), reduce=lambda total, x: total + x)
        >>> squares, int(total)
        (array([ 0,  1,  4,  9, 16, 25]), 333833500)
        """
        options = JobOptions(
            retries=retries, time_limit=time_limit, allow_pickle=allow_pickle, on=nodes_of(self)
        )
        return pmap(
            Executor(mesh_of(self), options, seeds_of(self, seed), max_workers=max_workers),
            function,
            inputs,
            uniform_output=uniform_output,
            error_handler=error_handler,
            chunksize=chunksize,
            vectorized=vectorized,
            reduce=reduce,
            ordered=ordered,
        )


def nodes_of(view: Any, on: int | Sequence[int] | None = None) -> frozenset[int] | None:
    """Return the nodes where jobs may run; ``None`` for the whole network."""
    if isinstance(view, Connection):
        nodes = {view.node}
    else:
        assert isinstance(view, Network)  # noqa: S101 - there are no other views
        nodes = {node for node in view.nodes if node}
    if on is not None:
        nodes = chosen_nodes(on, nodes)
    everywhere = set(mesh_of(view).servers)
    return None if nodes == everywhere else frozenset(nodes)


def chosen_nodes(on: int | Sequence[int], nodes: Set[int]) -> set[int]:
    """Return the nodes that the option `on` names; refuse any that is not among `nodes`."""
    numbers = set(on) if isinstance(on, Iterable) else {on}
    if not numbers or numbers - nodes:
        raise ConfigurationError(f"on={on!r} is not possible: the nodes here are {sorted(nodes)}")
    return numbers


def seeds_of(view: Any, seed: int | None) -> Seeds | None:
    """Return the source of the random streams for the jobs of one call; ``None`` without a seed."""
    if seed is not None:
        return Seeds(seed)
    of_all: Seeds | None = mesh_of(view).jobs.seeds
    return of_all and of_all.branch()

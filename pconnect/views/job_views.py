"""The verbs of a network that use the processors its servers offer: jobs, in worker processes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pconnect.errors import ConfigurationError
from pconnect.executors.executor import Executor
from pconnect.executors.job_map import map_jobs
from pconnect.executors.multiprocessing_pool import Pool
from pconnect.executors.pmap import pmap
from pconnect.executors.submit_options import given_options
from pconnect.jobs.broadcast_value import Broadcast, broadcast
from pconnect.jobs.job import Job, JobOptions
from pconnect.jobs.seeds import Seeds
from pconnect.link.connection import Connection
from pconnect.loop.network import Network
from pconnect.session.remote_calls import call_service, mesh_of
from pconnect.statistics.server_table import Statistics


class JobView:
    """What a network and a single node of it have in common on the client, for jobs."""

    _kept_executor: Executor | None = None  #: what `submit` uses, once it was used

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
    ) -> Executor:
        """Return an executor of the standard library whose workers are on the nodes.

        Parameters
        ----------
        retries
            How often a job is run again, elsewhere if possible, that had begun and whose worker, machine or connection
            was lost. One that raises is never run again. ``None``: never; but with the `resume` of `pconnect`, jobs
            that servers ended because the client was away run again, which does not count. 0: nothing runs twice.
        time_limit
            Seconds after which a job is interrupted, and five seconds later its worker killed.
        memory_limit
            Bytes that a job may take beyond what its worker has already; more raises MemoryError in the job.
        isolate
            Whether each job has a process of its own.
        allow_pickle
            Whether results and exceptions that cannot be sent otherwise come by pickle. Unpickling runs code that the
            server chooses.
        grace
            Seconds from the interrupt of a job that is cancelled until its worker is killed.
        exclusive
            Wait until no other client has slots of the servers, and hold all until the executor is shut down.
        seed
            For the random numbers of `pconnect.rng`, of ``numpy.random`` and of ``random`` in the jobs: those of the
            job that is submitted as the k-th are the same for every run of the program, wherever the job is run.

        Examples
        --------
        >>> from pconnect import as_completed, local_network
        >>> with local_network(2) as net, net.executor() as executor:
        ...     jobs = [executor.submit(pow, 2, k) for k in range(5)]
        ...     sorted(job.result() for job in as_completed(jobs))
        [1, 2, 4, 8, 16]
        """
        options = JobOptions(
            retries=retries,
            time_limit=time_limit,
            memory_limit=memory_limit,
            isolate=isolate,
            allow_pickle=allow_pickle,
            grace=grace,
            on=_nodes(self),
        )
        return Executor(mesh_of(self), options, _seeds(self, seed), exclusive=exclusive)

    def pool(self, processes: int | None = None, **options: Any) -> Pool:
        """Return what code expects that takes a `multiprocessing.Pool`, such as emcee; its workers are on the nodes.

        Parameters
        ----------
        processes
            No more than so many at once; by default as many as there are.
        **options
            As of `executor`.

        Examples
        --------
        >>> import math
        >>> from pconnect import local_network
        >>> with local_network(2) as net, net.pool() as pool:
        ...     pool.map(math.sqrt, [4, 9])
        [2.0, 3.0]
        """
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
        """Have a function called in a worker process of any of the nodes; return at once.

        The function finds there what commands that have ended by now have left in the engine's workspace.

        Parameters
        ----------
        function
            What is called, or an expression of the workspace.
        *args, **kwargs
            What it is called with.
        allow_pickle, seed
            As of `executor`, which has further options. With a seed, the job draws as the first of such an executor.

        Raises
        ------
        ConfigurationError
            The function has a parameter of its own that is called `allow_pickle` or `seed`, and this call gives one.
            Give it to the function with `functools.partial`, or use an `executor`, whose `submit` takes no options.

        Returns
        -------
        Job
            A `concurrent.futures.Future`: ``result()`` waits; it knows more, see `pconnect.jobs.job.Job`.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(1) as net:
        ...     net["table"] = {"a": 1, "b": 2}
        ...     net.submit(lambda key: table[key], "b").result()
        2
        """
        if given := given_options(function, allow_pickle=allow_pickle, seed=seed):
            return self.executor(**given).submit(function, *args, **kwargs)
        return _default_executor(self).submit(function, *args, **kwargs)

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
    ) -> Iterator[Any]:
        """Call a function for each item, in worker processes; give the results as they come.

        Only so many items are taken ahead as the workers need to be busy, so the iterables may be endless. Who stops
        taking results cancels what is under way.

        Parameters
        ----------
        function
            As of `submit`.
        *iterables
            As of the builtin ``map``: with several, the function gets one item of each.
        ordered
            Give the results in the order of the items; else as they come.
        chunksize
            ``"auto"``: each item is a job, and as many as keep a worker busy are sent together, which is measured while
            it goes on. A number: so many items are one job, which fails, is lost and is run again as a whole.
        on_error
            ``"raise"``: the first error ends it all. ``"return"``: an error takes the place of a result.
        retries, time_limit, allow_pickle
            As of `executor`.
        seed
            For the random numbers of `pconnect.rng`, of ``numpy.random`` and of ``random``: those of the k-th item are
            the same for every run of the program, any number of workers and any `chunksize`.
        on
            A node, or several, by number: only there.

        Yields
        ------
        object
            The results.

        Raises
        ------
        RemoteError, JobLostError
            The function failed, or its process was lost; nothing is under way any more.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(2) as net:
        ...     list(net.map(pow, [2, 3, 4], [5, 2, 1]))
        [32, 9, 4]
        """
        options = JobOptions(
            retries=retries, time_limit=time_limit, allow_pickle=allow_pickle, on=_nodes(self, on)
        )
        executor = Executor(mesh_of(self), options, _seeds(self, seed))
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
    ) -> Any:
        """Call a function for each element of arrays or lists, and wait for all results.

        Parameters
        ----------
        function
            As of `submit`. If it returns tuples, there is one result for each position in them.
        *inputs
            Of the same shape; one with a single element is used for all.
        uniform_output
            Whether each result is a single value, and all together make an array of the inputs' shape. Otherwise they
            are given as a list, or, for arrays of several axes, as an array of objects.
        error_handler
            Called as ``error_handler(failure, *elements)`` for each element that failed, here; what it returns takes
            the place of the result. `failure` has ``index`` (through the whole input), ``message``, ``identifier``
            and ``traceback``.
        chunksize, retries, time_limit, allow_pickle, seed
            As of `map`.

        Raises
        ------
        JobFailure
            The function failed for an element, and there is no error handler.
        ConfigurationError
            The inputs do not fit, or the results are not uniform.

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
        """
        options = JobOptions(
            retries=retries, time_limit=time_limit, allow_pickle=allow_pickle, on=_nodes(self)
        )
        return pmap(
            Executor(mesh_of(self), options, _seeds(self, seed)),
            function,
            inputs,
            uniform_output=uniform_output,
            error_handler=error_handler,
            chunksize=chunksize,
        )

    def seed(self, seed: int, *, timeout: float | None = None) -> None:
        """Give the random numbers of engines, and of the jobs that are submitted from now on, one seed.

        In each engine, the generator of `pconnect.rng`, and those of ``numpy.random`` and ``random``, begin a stream
        that depends on the seed and the number of the node. Jobs without a ``seed`` of their own draw as if each call
        of `submit`, `map`, `pmap`, `executor` or `pool` had a seed, which depends on this one and on how many calls
        there were since. An engine that is restarted draws numbers of its own again.

        Parameters
        ----------
        seed
            An integer from 0 on.
        timeout
            Limit in seconds for the engines, which do this after the commands that they have.

        Raises
        ------
        ConfigurationError
            This is a part of a network, or `seed` is no such integer. Nothing has changed.
        TimeoutError
            The limit passed. Engines that are busy do it later; jobs have the seed.

        Examples
        --------
        >>> import numpy as np
        >>> from pconnect import local_network
        >>> with local_network(2) as net:
        ...     net.seed(42)
        ...     first = net.eval("np.random.rand()").result(), list(net.map("np.random.rand", [2, 2]))
        ...     net.seed(42)
        ...     again = net.eval("np.random.rand()").result(), list(net.map("np.random.rand", [2, 2]))
        >>> first[0] == again[0], bool((np.array(first[1]) == again[1]).all())
        (True, True)
        """
        seeds = Seeds(seed)
        if _nodes(self) is not None:
            raise ConfigurationError(
                "seed() is for a whole network; a part of one takes `seed=` in `map` and others"
            )
        mesh_of(self).jobs.seeds = seeds
        call_service("random.seed", [seeds.seed], self, wants_value=False, shown_as="seed").result(timeout)  # type: ignore[arg-type]

    def broadcast(self, value: Any, *, timeout: float | None = None) -> Broadcast:
        """Send a value to each of the nodes once, for jobs.

        Parameters
        ----------
        value
            Anything that can be sent.
        timeout
            Limit in seconds.

        Returns
        -------
        Broadcast
            To be given to jobs, anywhere in their arguments, where it is the value itself. All workers of a node share
            its memory until they write to it. ``release()``, or the end of a ``with`` block, makes the engines forget
            it.

        Examples
        --------
        >>> import numpy as np
        >>> from pconnect import local_network
        >>> with local_network(1) as net, net.broadcast(np.arange(1e6)) as table:
        ...     list(net.map(lambda t, k: float(t[k]), [table] * 3, [5, 6, 7]))
        [5.0, 6.0, 7.0]
        """
        return broadcast(value, self, timeout)  # type: ignore[arg-type]

    def statistics(self, *, timeout: float = 5.0) -> Statistics:
        """Return what the servers of this network have done, and how they are: a row for each server.

        Parameters
        ----------
        timeout
            Seconds to wait for the servers' answers, which do not depend on what engines and workers are doing.
            A server that does not answer by then has a row that says so.

        Returns
        -------
        Statistics
            It prints aligned, and a notebook shows it as a table; ``update()`` asks again. The figures are those of the
            whole server since it started, also of other sessions: jobs and programs ``processed`` (done or failed),
            the times that they took in all and on average, ``failed``, and ``lost`` with their workers; load, memory
            and disk of the machine; free slots and sessions. The units are in the headings. ``documents`` has all that
            the servers say, ``workers()`` what the workers of this network have done, and ``to_pandas()`` makes a
            `pandas.DataFrame`.
        """
        mesh = mesh_of(self)
        return Statistics(mesh, lambda: sorted(_nodes(self) or mesh.servers), timeout)


def _nodes(view: Any, on: int | Sequence[int] | None = None) -> frozenset[int] | None:
    """Return the nodes that jobs may be run at; ``None`` for all of the network."""
    if isinstance(view, Connection):
        nodes = {view.node}
    else:
        assert isinstance(view, Network)  # noqa: S101 - there are no other views
        nodes = {node for node in view.nodes if node}
    if on is not None:
        wanted = {on} if isinstance(on, int) else set(on)
        if not wanted or wanted - nodes:
            raise ConfigurationError(f"on={on!r}: the nodes here are {sorted(nodes)}")
        nodes = wanted
    everywhere = set(mesh_of(view).servers)
    return None if nodes == everywhere else frozenset(nodes)


def _seeds(view: Any, seed: int | None) -> Seeds | None:
    """Return what gives the jobs of one call their streams; ``None``: nobody gave a seed."""
    if seed is not None:
        return Seeds(seed)
    of_all: Seeds | None = mesh_of(view).jobs.seeds
    return of_all and of_all.branch()


def _default_executor(view: "JobView") -> Executor:
    """Return what `submit` uses, which a view keeps: to look for it takes longer than to encode a small job."""
    if view._kept_executor is None:
        mesh, nodes = mesh_of(view), _nodes(view)
        view._kept_executor = mesh.jobs.executors.get(nodes)
        if view._kept_executor is None:
            view._kept_executor = mesh.jobs.executors[nodes] = Executor(mesh, JobOptions(on=nodes))
    return view._kept_executor

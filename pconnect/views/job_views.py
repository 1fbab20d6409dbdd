"""The methods of networks and single nodes for jobs, which run in worker processes on the servers."""

from collections.abc import Callable
from typing import Any

from pconnect.errors import ConfigurationError
from pconnect.executors.executor import Executor
from pconnect.executors.multiprocessing_pool import Pool
from pconnect.executors.submit_options import given_options
from pconnect.jobs.broadcast_value import Broadcast, broadcast
from pconnect.jobs.job import Job, JobOptions
from pconnect.jobs.seeds import Seeds
from pconnect.session.remote_calls import call_service, mesh_of
from pconnect.statistics.server_table import Statistics
from pconnect.views.map_views import MapView, nodes_of, seeds_of


class JobView(MapView):
    """The methods for jobs of a network and a single node, on the client."""

    _kept_executor: Executor | None = None  #: the executor of `submit`, once it was called

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
        max_workers: int | None = None,
    ) -> Executor:
        """Return an executor, as in the standard library, whose workers are on the nodes.

        Parameters
        ----------
        retries
            How often a job may run again, elsewhere if possible, if it had begun and its worker, machine or connection
            was lost. A job that raises never runs again. ``None``: never, except that with the `resume` of `pconnect`,
            jobs that servers ended because the client was away run again, which does not count. 0: nothing runs twice.
        time_limit
            Seconds after which a job is interrupted; its worker is killed five seconds later.
        memory_limit
            Bytes that a job may allocate beyond its worker's memory; more raises MemoryError in the job.
        isolate
            Whether each job gets a process of its own.
        allow_pickle
            Whether results and exceptions that cannot be sent otherwise are pickled. Unpickling runs code that the
            server chooses.
        grace
            Seconds between the interrupt of a cancelled job and the kill of its worker.
        exclusive
            Wait until no other client has slots of the servers, and hold all slots until the executor is shut down.
        seed
            Seed for the random numbers of `pconnect.rng`, ``numpy.random`` and ``random`` in the jobs: the k-th
            submitted job draws the same numbers in every run of the program, wherever it runs.
        max_workers
            Maximum number of jobs of this executor in progress at the same time; ``None``: all slots that the servers
            grant. The client keeps the other jobs and sends each when one has ended. `detach` hands them over together
            with the limit.

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
            on=nodes_of(self),
        )
        seeds = seeds_of(self, seed)
        return Executor(mesh_of(self), options, seeds, exclusive=exclusive, max_workers=max_workers)

    def pool(self, processes: int | None = None, **options: Any) -> Pool:
        """Return a pool with workers on the nodes, for code that expects a `multiprocessing.Pool`, such as emcee.

        Parameters
        ----------
        processes
            Maximum number of jobs in progress, as `max_workers` of `executor`; by default one for each slot.
        **options
            See `executor`.

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
        """Call a function in a worker process on any of the nodes; return immediately.

        The function sees the names that finished commands have left in the engine's workspace.

        Parameters
        ----------
        function
            A function, or an expression of the workspace that evaluates to one.
        *args, **kwargs
            Its arguments.
        allow_pickle, seed
            See `executor`, which has more options. With a seed, the job draws like the first job of such an executor.

        Raises
        ------
        ConfigurationError
            The function itself has a parameter called `allow_pickle` or `seed`, and this call gives it. Bind it with
            `functools.partial`, or use an `executor`, whose `submit` takes no options.

        Returns
        -------
        Job
            A `concurrent.futures.Future` whose ``result()`` waits; it offers more, see `pconnect.jobs.job.Job`.

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

    def seed(self, seed: int, *, timeout: float | None = None) -> None:
        """Seed the random numbers of the engines, and of all jobs submitted from now on.

        In each engine, the generator of `pconnect.rng`, and those of ``numpy.random`` and ``random``, start a stream
        that depends on the seed and the node's number. Jobs without their own ``seed`` draw as if each call of
        `submit`, `map`, `pmap`, `executor` or `pool` had a seed derived from this one and from the number of such calls
        since. An engine that is restarted draws unseeded numbers again.

        Parameters
        ----------
        seed
            A non-negative integer.
        timeout
            Limit for the engines, in seconds; they do this after their current commands.

        Raises
        ------
        ConfigurationError
            This is a part of a network, or `seed` is not a non-negative integer. Nothing has changed.
        TimeoutError
            The limit passed. Busy engines are seeded later; jobs have the seed.

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
        if nodes_of(self) is not None:
            raise ConfigurationError(
                "seed() needs a whole network; for a part of one, pass seed= to map and the others"
            )
        mesh_of(self).jobs.seeds = seeds
        call_service("random.seed", [seeds.seed], self, wants_value=False, shown_as="seed").result(timeout)  # type: ignore[arg-type]

    def broadcast(self, value: Any, *, timeout: float | None = None) -> Broadcast:
        """Send a value to each of the nodes once, for use in jobs.

        Parameters
        ----------
        value
            Any value that can be sent.
        timeout
            Limit for the whole call, in seconds.

        Returns
        -------
        Broadcast
            Pass it to jobs anywhere in their arguments; they receive the value itself. All workers of a node share its
            memory until they write to it. ``release()``, or the end of a ``with`` block, makes the engines discard it.

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
        """Return the state of this network's servers and their totals since start: a row for each server.

        Parameters
        ----------
        timeout
            Seconds to wait for the servers' answers, which do not depend on the work of engines and workers. A server
            that does not answer in time has a row that says so.

        Returns
        -------
        Statistics
            It prints aligned, and a notebook shows it as a table; ``update()`` refreshes it. The figures are those of
            the whole server since it started, including other sessions: jobs and programs ``processed`` (done or
            failed), their total and average time, ``failed``, and ``lost`` with their workers; load, memory and disk of
            the machine; free slots and sessions. The units are in the headings. ``documents`` has all facts that the
            servers report, ``workers()`` the totals of this network's workers, and ``to_pandas()`` makes a
            `pandas.DataFrame`.
        """
        mesh = mesh_of(self)
        return Statistics(mesh, lambda: sorted(nodes_of(self) or mesh.servers), timeout)


def _default_executor(view: "JobView") -> Executor:
    """Return the executor of `submit`. A view keeps it: looking it up takes longer than encoding a small job."""
    if view._kept_executor is None:
        mesh, nodes = mesh_of(view), nodes_of(view)
        view._kept_executor = mesh.jobs.executors.get(nodes)
        if view._kept_executor is None:
            view._kept_executor = mesh.jobs.executors[nodes] = Executor(mesh, JobOptions(on=nodes))
    return view._kept_executor

"""`Network.dask`: a Dask cluster on the machines of a network."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pconnect.dask.adaptive import AdaptiveWorkers, Bounds
from pconnect.dask.cluster import SCHEDULER, DaskCluster, Plan
from pconnect.errors import ConfigurationError, ConnectionLostError
from pconnect.loop.network import Network
from pconnect.messaging.send_receive import resolve
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import client_mesh
from srp_tools.packages import import_own

if TYPE_CHECKING:
    from pconnect.dask.client import NetworkClient

# Options of Dask's client that the network sets itself.
_NOT_THEIRS = {"address", "asynchronous", "loop", "scheduler_file", "security"}


class DaskViews:
    """The methods for Dask; mixed into the client's network."""

    def dask(
        self,
        *,
        workers: int | None = None,
        threads: int = 1,
        memory_limit: str | float | None = "auto",
        scheduler_node: int | None = None,
        adaptive: bool = False,
        minimum: int = 0,
        maximum: int | None = None,
        dashboard: bool = False,
        timeout: float = 60.0,
        **client_options: Any,
    ) -> "NetworkClient":
        """Start a Dask cluster on the machines of this network, and return a `distributed.Client` for it.

        The scheduler and the workers are processes next to the engines, which stay usable. All their connections use
        TLS 1.3 with certificates of this network, and no other process can connect.

        The cluster ends with ``client.close()``, with the ``with`` block of the client, or with the network. The
        processes on a node also end with its engine, however that ends. See doc/reference/dask.md.

        Parameters
        ----------
        workers
            Number of workers on each node of this network or part of one; ``None``: one for each engine. With
            `adaptive`, the maximum number.
        threads
            Number of tasks that a worker runs in parallel.
        memory_limit
            Limit of each worker, in a form that Dask accepts: a number of bytes, a string such as ``"4 GiB"``, ``None``
            for no limit, or ``"auto"`` for memory in proportion to its threads' share of the machine's processors.
        scheduler_node
            Number of the node that runs the scheduler, which may be any node of the whole network; ``None``: the first.
        adaptive
            Whether the number of workers follows the load: as many run as the scheduler wants and as fit on the current
            nodes, including those that ``net.add`` adds later and without those that are removed. With
            ``pconnect(elastic=True)``, the network adds servers of its pool when the scheduler wants more workers than
            fit.
        minimum, maximum
            Total number of workers with `adaptive`; a `maximum` of ``None``: as many as fit.
        dashboard
            Whether ``client.dashboard_link`` leads to Dask's dashboard, for a browser on this machine. It is on a
            loopback port and needs the token in its address. Its plots need ``bokeh`` on the scheduler's node.
        timeout
            Limit for the whole start, in seconds. The engines finish their commands first.
        **client_options
            Other options of `distributed.Client`, such as ``set_as_default``.

        Returns
        -------
        distributed.Client
            It is connected to all workers, or to at least `minimum` of them, and is also Dask's current client.

        Raises
        ------
        ConfigurationError
            Dask is missing on the client or on a node, a node has another minor version of Python, an option cannot be
            used, or the network has no encryption.
        ProcessFailedError
            The scheduler or a worker could not start; the text names the node and shows the last lines of its output.
        RemoteError, ConnectionLostError, ExceptionGroup
            An engine failed or is gone, or the scheduler cannot be reached from the client.
        TimeoutError
            The start timed out; the text says what was not ready.

        In all these cases, the processes that had started are ended.

        Warns
        -----
        VersionWarning
            Nodes have a version of ``distributed`` that differs from the client's.

        Examples
        --------
        >>> import dask.array
        >>> from pconnect import local_network
        >>> with local_network(2) as net, net.dask() as client:
        ...     x = dask.array.ones((1000, 1000), chunks=(500, 500))
        ...     float(x.sum().compute()), len(client.nthreads())
        (1000000.0, 2)
        """
        assert isinstance(self, Network)  # noqa: S101 - it is mixed into this alone
        mesh = client_mesh(self.mesh)
        mesh.check_open()
        authority = mesh.mesh_setup.authority if mesh.mesh_setup else None
        if authority is None:
            raise ConfigurationError(
                "this network has no encryption (use_tls=False), and without certificates anyone who can reach a Dask "
                "cluster could run any program there; connect to servers with TLS"
            )
        if theirs := sorted(_NOT_THEIRS & client_options.keys()):
            raise ConfigurationError(f"{theirs[0]}= is not an option here: the network sets it")
        names = _names(self, mesh, 1 if workers is None else workers, scheduler_node)
        first = next(iter(names))
        plan = Plan(names, _counted("threads", threads), memory_limit, timeout, bool(dashboard))
        follower = None
        if adaptive:
            bounds = Bounds(minimum, maximum, 1 if workers is None else workers)
            follower = AdaptiveWorkers(
                mesh,
                authority,
                plan,
                bounds,
                nodes=_places_of(self, mesh),
                scheduler=first,
                follow=_follow_of(self, mesh),
            )
            plan = plan.only(first, SCHEDULER)
        elif (minimum, maximum) != (0, None):
            raise ConfigurationError(
                "minimum and maximum need adaptive=True; use workers= for a fixed number"
            )
        client_class = _client_class()
        cluster = DaskCluster(mesh, authority, plan)
        client = None
        try:
            address = cluster.start()
            client = _connected(client_class, cluster, address, authority.own_role("client"), client_options)
            if cluster.dashboard_port is not None:
                client.show_dashboard(cluster.dashboard_port)
            _end_together(client, cluster, mesh, follower)
            if follower is not None:
                follower.begin(address, client)
        except BaseException:
            if client is not None:
                with contextlib.suppress(OSError, TimeoutError):
                    client.close(0.0)
            cluster.stop(0.0)
            raise
        return client


def _client_class() -> "type[NetworkClient]":
    try:
        found: type[NetworkClient] = import_own("pconnect.dask.client").NetworkClient
    except ImportError as error:
        raise ConfigurationError(
            f"Dask is not installed on the client ({error}): run pip install 'pserver[dask]'"
        ) from error
    return found


def _names(
    network: Network, mesh: ClientMesh, workers: int, scheduler_node: int | None
) -> dict[int, list[str]]:
    """Return the names of the processes by node; the scheduler is the first process of the first node."""
    _counted("workers", workers)
    nodes = [connection.node for connection in resolve(network)[1]]
    first = nodes[0] if scheduler_node is None else scheduler_node
    if first not in mesh.servers:
        raise ConfigurationError(f"scheduler_node={first!r}: nodes with an engine are {sorted(mesh.servers)}")
    names = {first: [SCHEDULER]}
    for node in nodes:
        names.setdefault(node, []).extend(f"node{node}-{number}" for number in range(workers))
    return names


def _counted(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name}={value!r}: it must be an integer, and at least 1")
    return value


def _connected(
    client_class: "type[NetworkClient]",
    cluster: DaskCluster,
    address: str,
    identity: Any,
    options: dict[str, Any],
) -> "NetworkClient":
    try:
        return client_class.connect(address, identity, max(1.0, cluster.seconds_left), options)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"invalid option of distributed.Client: {error}") from error
    except OSError as error:
        raise ConnectionLostError(
            f"{cluster.where(SCHEDULER)} listens on {address}, but the client could not connect: {error}"
        ) from error


def _places_of(network: Network, mesh: ClientMesh) -> Callable[[], list[int]]:
    """Return a function that lists the nodes that may have workers: those of a part, or all current ones."""
    if network.is_whole:
        return lambda: sorted(mesh.servers)
    part = network.nodes
    return lambda: [node for node in part if node in mesh.servers]


def _follow_of(network: Network, mesh: ClientMesh) -> Callable[[], None]:
    """Return a function that looks for more servers of the pool, if the network is whole and follows a pool."""
    if network.is_whole and mesh.growth.follower is not None:
        begin: Callable[[], None] = mesh.growth.follower.begin
        return begin
    return lambda: None


def _end_together(
    client: "NetworkClient", cluster: DaskCluster, mesh: ClientMesh, follower: AdaptiveWorkers | None
) -> None:
    """Make the client end its cluster, and the network end its client."""

    def close_with_network() -> None:
        client.end_processes = None  # the engines end next, and end all other processes
        if follower is not None:
            follower.end()
        with contextlib.suppress(OSError, TimeoutError):
            client.close()

    def end_processes(_: float) -> None:
        mesh.before_close.remove(close_with_network)
        if follower is not None:
            follower.end()
        cluster.stop()

    client.end_processes = end_processes
    if follower is not None:
        client.before_end = follower.rest
    mesh.before_close.append(close_with_network)

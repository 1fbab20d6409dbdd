"""The verb of a network that starts a Dask cluster at its machines."""

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

# Options of Dask's client that would contradict what the network decides.
_NOT_THEIRS = {"address", "asynchronous", "loop", "scheduler_file", "security"}


class DaskViews:
    """What a network can do with Dask; mixed into the client's."""

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
        """Start a Dask cluster at the machines of this network, and return a `distributed.Client` of it.

        The scheduler and the workers are processes beside the engines, which are as usable as before. All their
        connections are TLS 1.3 with certificates of this network, and no other process can connect.

        The cluster ends with ``client.close()``, with the ``with`` block of the client, or with the network; the
        processes on a node also with its engine, however that ends. See doc/reference/dask.md.

        Parameters
        ----------
        workers
            How many on each node of this network or part of one; ``None``: one, as there is one engine. So many at most
            with `adaptive`.
        threads
            How many tasks a worker runs at once.
        memory_limit
            Of each worker, as Dask takes it: a number of bytes, a text such as ``"4 GiB"``, ``None`` for no limit, or
            ``"auto"``, the share that its threads have of the machine's processors.
        scheduler_node
            Number of the node for the scheduler, which may be another one of the whole network; ``None``: the first.
        adaptive
            Whether the number of workers follows the work: there are as many as the scheduler wants, and as fit on the
            nodes that the network has by then, with those that ``net.add`` brings and without those that are removed.
            With ``pconnect(elastic=True)``, the network adds servers of its pool when more workers are wanted than fit.
        minimum, maximum
            Of the workers in all, with `adaptive`; ``None``: as many as fit.
        dashboard
            Whether ``client.dashboard_link`` leads to Dask's dashboard, for a browser on this machine: at a loopback
            port, with a token in its address, without which nobody sees it. Its plots need ``bokeh`` at the scheduler.
        timeout
            Limit for starting all of it, in seconds. The engines have to end their commands first.
        **client_options
            Further options of `distributed.Client`, such as ``set_as_default``.

        Returns
        -------
        distributed.Client
            Connected, with all workers there, or `minimum` of them; it is also Dask's current one.

        Raises
        ------
        ConfigurationError
            Dask is missing here or on a node, a node has another minor version of Python, an option cannot be used, or
            the network has no encryption.
        ProcessFailedError
            The scheduler or a worker could not start; the text has its node and the last lines it wrote.
        RemoteError, ConnectionLostError, ExceptionGroup
            An engine could not do its part, or is gone; or the scheduler cannot be reached from here.
        TimeoutError
            The limit passed; the text says what was not ready.

        In all these cases, what had been started is ended.

        Warns
        -----
        VersionWarning
            Nodes have another version of ``distributed`` than the client.

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
                "this network has no encryption (use_tls=False): everybody who can reach a Dask cluster without "
                "certificates could run any program there; connect to servers with TLS"
            )
        if theirs := sorted(_NOT_THEIRS & client_options.keys()):
            raise ConfigurationError(f"{theirs[0]}= is not an option here: the network decides that")
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
            raise ConfigurationError("minimum and maximum are for adaptive=True; else workers= says how many")
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
            f"Dask is not installed at the client ({error}): run pip install 'pserver[dask]'"
        ) from error
    return found


def _names(
    network: Network, mesh: ClientMesh, workers: int, scheduler_node: int | None
) -> dict[int, list[str]]:
    """Return the names of the processes on each node; the scheduler is the first of the first."""
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
        raise ConfigurationError(f"{name}={value!r}: that is a number, and at least 1")
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
        raise ConfigurationError(f"this is no option of distributed.Client: {error}") from error
    except OSError as error:
        raise ConnectionLostError(
            f"{cluster.where(SCHEDULER)} listens at {address}, but the client could not connect: {error}"
        ) from error


def _places_of(network: Network, mesh: ClientMesh) -> Callable[[], list[int]]:
    """Return what gives the nodes that may have workers: those of a part of the network, or all there are by then."""
    if network.is_whole:
        return lambda: sorted(mesh.servers)
    part = network.nodes
    return lambda: [node for node in part if node in mesh.servers]


def _follow_of(network: Network, mesh: ClientMesh) -> Callable[[], None]:
    """Return what looks for further servers of the pool, if the network is whole and follows it."""
    if network.is_whole and mesh.growth.follower is not None:
        begin: Callable[[], None] = mesh.growth.follower.begin
        return begin
    return lambda: None


def _end_together(
    client: "NetworkClient", cluster: DaskCluster, mesh: ClientMesh, follower: AdaptiveWorkers | None
) -> None:
    """Let the client end its cluster, and the network its client."""

    def close_with_network() -> None:
        client.end_processes = None  # the engines end next, and with them what is left
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

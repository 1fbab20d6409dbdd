"""The verb of a network that starts a Dask cluster at its machines."""

import contextlib
from typing import TYPE_CHECKING, Any

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
        timeout: float = 60.0,
        **client_options: Any,
    ) -> "NetworkClient":
        """Start a Dask cluster at the machines of this network, and return a `distributed.Client` of it.

        The scheduler and the workers are processes beside the engines, which are as usable as before. All their
        connections are TLS 1.3 with certificates of this network, and no other process can connect. There is no
        dashboard.

        The cluster ends with ``client.close()``, with the ``with`` block of the client, or with the network; the
        processes on a node also with its engine, however that ends. See doc/reference/dask.md.

        Parameters
        ----------
        workers
            How many on each node of this network or part of one; ``None``: one, as there is one engine.
        threads
            How many tasks a worker runs at once.
        memory_limit
            Of each worker, as Dask takes it: a number of bytes, a text such as ``"4 GiB"``, ``None`` for no limit, or
            ``"auto"``, the share that its threads have of the machine's processors.
        scheduler_node
            Number of the node for the scheduler, which may be another one of the whole network; ``None``: the first.
        timeout
            Limit for starting all of it, in seconds. The engines have to end their commands first.
        **client_options
            Further options of `distributed.Client`, such as ``set_as_default``.

        Returns
        -------
        distributed.Client
            Connected, with all workers there; it is also Dask's current one.

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
        plan = Plan(names, _counted("threads", threads), memory_limit, timeout)
        client_class = _client_class()
        cluster = DaskCluster(mesh, authority, plan)
        try:
            address = cluster.start()
            client = _connected(client_class, cluster, address, authority.own_role("client"), client_options)
        except BaseException:
            cluster.stop(0.0)
            raise
        _end_together(client, cluster, mesh)
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


def _end_together(client: "NetworkClient", cluster: DaskCluster, mesh: ClientMesh) -> None:
    """Let the client end its cluster, and the network its client."""

    def close_with_network() -> None:
        client.end_processes = None  # the engines end next, and with them what is left
        with contextlib.suppress(OSError, TimeoutError):
            client.close()

    def end_processes(_: float) -> None:
        mesh.before_close.remove(close_with_network)
        cluster.stop()

    client.end_processes = end_processes
    mesh.before_close.append(close_with_network)

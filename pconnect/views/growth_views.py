"""`add`, `remove` and `reconnect`: the methods of a whole network that change its nodes."""

from typing import ClassVar

from pconnect.errors import ConfigurationError
from pconnect.growth.adding import add_nodes
from pconnect.growth.reconnecting import reconnect_nodes
from pconnect.growth.removing import Nodes, remove_nodes
from pconnect.link.connection import Connection
from pconnect.loop.network import Mesh
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import client_mesh
from pconnect.views.pool_views import PoolView


class GrowthView(PoolView):
    """The methods of a whole network; a part of one raises an error."""

    is_whole: bool
    mesh: Mesh
    #: The classes of connections to engines: the usual one, and the one for networks that another process may resume.
    _make: ClassVar[tuple[type[Connection], type[Connection]]]

    def add(self, hosts: object, *, timeout: float = 30.0) -> list[int]:
        """Log in to more servers and connect their engines with all others, while work continues.

        The new nodes get the next numbers, and no other number changes. `net`, and ``sockets`` in the engines, contain
        them immediately. Executors, maps and pools that run on the whole network use their slots from now on. Their
        workspaces are empty: functions of jobs find no names there until you have sent some. They get the values that
        `broadcast` has sent to all nodes. The call does not wait for busy engines: they connect to a new engine when
        they are next idle or inside a call of this package. A running collective call of all nodes fails; collective
        calls work again from your next command on.

        Parameters
        ----------
        hosts
            As for `pconnect`, or the `host` of a node. The same server may appear more than once, and may be one that
            the network already has: each occurrence is a node with its own engine.
        timeout
            Limit for the whole call, in seconds.

        Returns
        -------
        list of int
            The numbers of the new nodes, in the order of `hosts`.

        Raises
        ------
        ConnectError
            A login failed, or an engine could not be connected with the others; ``reasons`` has the error of each host
            that failed. A host also fails if it speaks another version, or did not get the values of `broadcast` in
            time. If all reasons are refused logins, the error is an `AuthenticationError`; if all are servers that
            accept no new session, it is a `ServerRefusedError`. No node was added. If all logins had succeeded, the
            numbers stay unused.
        ConfigurationError
            A host is invalid, this is a part of a network, or its nodes are already being changed. Nothing changed.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(2) as net:
        ...     net.add(net[1].host), net.eval("sockets.node").result()
        ([3], [1, 2, 3])
        """
        mesh = self._whole("add")
        is_resumable = mesh.mesh_setup is not None and mesh.mesh_setup.is_resumable
        return add_nodes(mesh, hosts, self._make[is_resumable], timeout)

    def remove(self, nodes: Nodes, *, grace: float = 5.0) -> None:
        """End the sessions of some nodes, and remove the nodes from the network.

        Their numbers stay unused, and no other number changes: indexing one of them raises `IndexError`; `len`,
        iteration, slices, ``nodes`` and calls for the whole network skip them, here and in engines. Jobs that run there
        have some time to finish. Jobs still running after that are lost with their session, and run again elsewhere if
        they have ``retries``. Jobs that have not begun run elsewhere, which does not count as a loss. Commands that run
        there are interrupted, as by `sclose`. A `RouteWarning` names the nodes for which a removed node was the relay:
        they have lost their connection with each other. A running collective call of all nodes fails; collective calls
        work again from your next command on.

        Parameters
        ----------
        nodes
            A number, several numbers, a connection such as ``net[2]``, or a part of the network.
        grace
            Seconds for running jobs to end, and then for commands.

        Raises
        ------
        ConfigurationError
            One of `nodes` is not a node with an engine, this is a part of a network, or its nodes are already being
            changed. Nothing changed.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(3) as net:
        ...     net.remove(2)
        ...     net.nodes, len(net), net[3].eval("sockets.nodes").result()
        ([0, 1, 3], 3, [0, 1, 3])
        """
        remove_nodes(self._whole("remove"), nodes, grace)

    def reconnect(
        self, nodes: Nodes | None = None, *, fresh: bool = False, timeout: float = 30.0
    ) -> list[int]:
        """Give nodes whose server was restarted, or whose connection is lost, a new session under the same number.

        The engine is new, and so is its workspace. `Connection` objects stay valid, here and in other engines, as after
        a restart: their ``error`` is cleared. Data in transit is lost; jobs that had begun there run again if they have
        ``retries``. If the node is still running jobs, they have 5 seconds to end first. A running collective call of
        all nodes fails; collective calls work again from your next command on.

        Parameters
        ----------
        nodes
            As for `remove`; by default all lost nodes. Nodes that are not lost, and answer, are left alone.
        fresh
            In a network with ``resume=``, the sessions may still exist if the servers have an ``--orphan-timeout``. By
            default, a client that lost its connections returns to them: engines, workspaces and running commands are
            unchanged, and `commands` has those that were in progress, with their results. With ``True`` the nodes get
            new sessions instead, once the old ones have ended.
        timeout
            Limit for the whole call, in seconds. A server that still has the old session, because it has not yet
            noticed the lost connection, is asked again until then. A server counts as lost when it has not answered for
            5 seconds. With a shorter limit, a silent server is left unchanged and is reported as an error.

        Returns
        -------
        list of int
            The numbers of the nodes that have a new session.

        Raises
        ------
        ConnectError
            As for `add`, with the error of each node that failed. The others have a new session.
        ConfigurationError
            As for `remove`.
        """
        return reconnect_nodes(self._whole("reconnect"), nodes, timeout, fresh=fresh)

    def _note_of(self, connection: Connection) -> str:
        note: str = super()._note_of(connection)  # type: ignore[misc] # of `pconnect.loop.network.Network`
        healing = client_mesh(self.mesh).growth.healing.get(connection.node, "")
        return f"{note}; {healing}" if note and healing else note or healing

    def _whole(self, verb: str) -> ClientMesh:
        if not self.is_whole:
            raise ConfigurationError(f"{verb}() needs a whole network, and this is a part of one")
        return client_mesh(self.mesh)

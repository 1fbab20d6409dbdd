"""The verbs of a whole network that change which nodes it has."""

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
    """What a network has on the client, and no part of it."""

    is_whole: bool
    mesh: Mesh
    #: What connections to engines are made of: usually, and where another process may come back to them.
    _make: ClassVar[tuple[type[Connection], type[Connection]]]

    def add(self, hosts: object, *, timeout: float = 30.0) -> list[int]:
        """Log in at more servers, and connect their engines with all others, while work goes on.

        The new nodes have the next numbers, and no other number changes. `net` and what engines know as ``sockets``
        have them at once. Executors, maps and pools that run on the whole network use their slots from now on. Their
        workspaces are empty: functions of jobs that look for names there do not find them before you have sent these.
        They get the values that `broadcast` has sent to all nodes. A busy engine is not waited for: its link to a new
        one is made when it is next idle or inside a call of this package. A collective call of all nodes that is under
        way fails; your next command begins anew.

        Parameters
        ----------
        hosts
            As of `pconnect`, or what `host` of a node says. The same server may appear more than once, and may be one
            that the network has already: each time is a node with an engine of its own.
        timeout
            Limit for the whole call, in seconds.

        Returns
        -------
        list of int
            The numbers of the new nodes, in the order of `hosts`.

        Raises
        ------
        ConnectError
            A server cannot be logged in at, or an engine not be connected with the others; ``reasons`` has the error of
            each host that failed, also where it speaks another version, or did not get the values of `broadcast` in
            time. If the only reasons are refused logins, it is an `AuthenticationError`; if they are servers that take
            no new session, a `ServerRefusedError`. No node was added. Where all logins had succeeded, the numbers stay
            empty.
        ConfigurationError
            A host cannot be understood; this is a part of a network; or its nodes are being changed already. Nothing
            was done.

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
        """End the sessions of some nodes, and leave these out of the network from now on.

        Their numbers stay empty, and no other number changes: an index of one of them is an `IndexError`; `len`,
        iteration, slices, ``nodes`` and calls for the whole network leave them out, here and in engines. Jobs that run
        there have some time to end. Those that have not ended by then are lost with their session, and run again
        elsewhere if they have ``retries``. Jobs that have not begun run elsewhere, which does not count as a loss.
        Commands that run there are interrupted, as by `sclose`. A `RouteWarning` names the nodes for which one of these
        was the relay: they have no connection with each other then. A collective call of all nodes that is under
        way fails; your next command begins anew.

        Parameters
        ----------
        nodes
            A number, several, a connection such as ``net[2]``, or a part of the network.
        grace
            Seconds for jobs that run there to end, and then for commands.

        Raises
        ------
        ConfigurationError
            One of `nodes` is no node with an engine; this is a part of a network; or its nodes are being changed
            already. Nothing was done.

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

        The engine is new, and so is its workspace. `Connection` objects stay the same, here and in other engines, as in
        a restart: their ``error`` is cleared. What was on its way is lost; jobs that had begun there run again if they
        have ``retries``. If the node runs jobs again by itself, those that run just now have 5 seconds to end first.
        A collective call of all nodes that is under
        way fails; your next command begins anew.

        Parameters
        ----------
        nodes
            As of `remove`; by default all that are lost. Those that are not lost, and answer, are left alone.
        fresh
            In a network with ``resume=`` the sessions may have waited, if the servers have an ``--orphan-timeout``. So
            the client comes back to them, after its own network was lost: engines, workspaces and running commands are
            as they were, and `commands` has what has become of those that were on their way. With ``True`` the nodes
            get new sessions instead, if the old ones have ended.
        timeout
            Limit for the whole call, in seconds. A server that still has the old session, because it has not seen yet
            that the connection is lost, is asked again within it. A server counts as lost when it has not answered for
            5 seconds. With a shorter limit, one that is silent is left as it is, and is a reason of the error.

        Returns
        -------
        list of int
            The numbers of the nodes that have a new session.

        Raises
        ------
        ConnectError
            As of `add`, with the error of each node that failed. The others have a new session.
        ConfigurationError
            As of `remove`.
        """
        return reconnect_nodes(self._whole("reconnect"), nodes, timeout, fresh=fresh)

    def _note_of(self, connection: Connection) -> str:
        note: str = super()._note_of(connection)  # type: ignore[misc] # of `pconnect.loop.network.Network`
        healing = client_mesh(self.mesh).growth.healing.get(connection.node, "")
        return f"{note}; {healing}" if note and healing else note or healing

    def _whole(self, verb: str) -> ClientMesh:
        if not self.is_whole:
            raise ConfigurationError(f"{verb}() is for a whole network, and this is a part of one")
        return client_mesh(self.mesh)

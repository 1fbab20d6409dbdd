"""Members of a collective call, and whether this node can take part."""

import functools

from pconnect.errors import CollectiveError, ConfigurationError
from pconnect.loop.in_process import InProcess, no_messages
from pconnect.loop.network import Mesh, Network


@functools.lru_cache(maxsize=64)  # a program makes many calls in a few groups
def ranks_of(nodes: tuple[int, ...]) -> dict[int, int]:
    """Return the rank of each member of a group, by node number."""
    return {node: rank for rank, node in enumerate(nodes)}


def mesh_for(network: Network, name: str) -> Mesh:
    """Return the mesh in which this node can make a collective call.

    Raises `ConfigurationError` if this node is not a member. Raises `CollectiveError` if it has left the collective
    calls of this epoch, or if the network has changed during this epoch.
    """
    if isinstance(network, InProcess):
        raise no_messages()
    if not isinstance(network, Network):
        raise ConfigurationError(f"{name} needs a network or a part of one, not {network!r}")
    mesh = network.mesh
    mesh.check_open()
    if mesh.node not in network.nodes:
        shown = ", ".join(map(str, network.nodes))
        advice = (
            "select a part that includes node 0, or run the call on the engines: "
            f"reval('{name}(..., sockets[{network.nodes}])', net[{network.nodes}])"
            if mesh.node == 0
            else "only its members may call it"
        )
        raise ConfigurationError(
            f"this is node {mesh.node}, which is not a member of {name} on nodes {shown}: {advice}"
        )
    if mesh.left is not None:
        raise CollectiveError(
            f"{name} cannot start: this node left an earlier collective call ({mesh.left.text}); the client's next "
            "command starts a new epoch"
        )
    if mesh.change and network.is_whole:
        raise CollectiveError(
            f"{name} of all nodes cannot start: {mesh.change}, and some nodes may not know it yet; the client's next "
            "command starts a new epoch"
        )
    return mesh

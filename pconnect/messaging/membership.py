"""Who takes part in a collective call, and whether this node can."""

import functools

from pconnect.errors import CollectiveError, ConfigurationError
from pconnect.loop.in_process import InProcess, no_messages
from pconnect.loop.network import Mesh, Network


@functools.lru_cache(maxsize=64)  # a program makes many calls in few groups
def ranks_of(nodes: tuple[int, ...]) -> dict[int, int]:
    """Return the rank of each member of a group, by its number."""
    return {node: rank for rank, node in enumerate(nodes)}


def mesh_for(network: Network, name: str) -> Mesh:
    """Return the mesh in which a collective call can be made.

    Raises `ConfigurationError` if this node is no member, and `CollectiveError` if it has left the collective calls of
    this epoch, or if the network has changed since that began.
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
            "take a part with node 0, or let the engines do it: "
            f"reval('{name}(..., sockets[{network.nodes}])', net[{network.nodes}])"
            if mesh.node == 0
            else "only its members call it"
        )
        raise ConfigurationError(
            f"this is node {mesh.node}, which is not among the members of {name}, nodes {shown}: {advice}"
        )
    if mesh.left is not None:
        raise CollectiveError(
            f"{name} cannot begin: this node left an earlier collective call ({mesh.left.text}); the client's next "
            "command begins anew"
        )
    if mesh.change and network.is_whole:
        raise CollectiveError(
            f"{name} of all nodes cannot begin: {mesh.change}, and some know of it and others may not; the client's "
            "next command begins anew"
        )
    return mesh

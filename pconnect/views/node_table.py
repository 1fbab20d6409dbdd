"""Nodes as tables: the display of a network in a notebook, made without asking a server."""

from collections.abc import Sequence
from typing import Any

from pconnect.commands.table import Table, shorten
from pconnect.link.connection import Connection


def of_nodes(connections: Sequence[Connection]) -> Table:
    """Return a table of nodes: host, state, kind of link, running commands, and the engine's process number and memory.

    The memory is the value of the last `network_get_info`; without one the cell is empty.
    """
    return Table(
        ["node", "host", "state", "link", "runs", "engine", "memory"],
        [_row_of_node(node) for node in connections],
    )


def _row_of_node(node: Connection) -> list[Any]:
    servers = getattr(node.mesh, "servers", {})
    if (server := servers.get(node.node)) is None:
        return [node.node, node.host, "this node" if node.is_own else "", node.transport, None, None, None]
    state = "closed" if node.mesh.closed else server.state
    running = [command.source for command in server.running.values()]
    runs = (
        shorten(running[0]) + (f" and {len(running) - 1} more" if len(running) > 1 else "")
        if running
        else None
    )
    memory = _memory(server.live.get("memory_bytes"))
    return [node.node, node.host, state, node.transport, runs, server.facts.get("pid"), memory]


def _memory(size: int | None) -> str | None:
    return None if size is None else f"{size / 1e6:.0f} MB"

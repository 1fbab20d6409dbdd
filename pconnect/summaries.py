"""What a notebook shows of networks, nodes and commands: tables, made of what is known without asking anybody."""

import html
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pconnect.errors import ParallelError
from pconnect.tables import Table

if TYPE_CHECKING:
    from pconnect.commands import Command
    from pconnect.connection import Connection

_MAX_CHARACTERS = 200


def of_nodes(connections: "Sequence[Connection]") -> Table:
    """Return a table of nodes: host, state, what runs, process number and memory of the engine.

    The memory is that of the last `network_get_info`, or nothing.
    """
    return Table(
        ["node", "host", "state", "runs", "engine", "memory"], [_row_of_node(node) for node in connections]
    )


def of_commands(commands: "Sequence[Command]") -> Table:
    """Return a table of commands: node, state, duration, and result or error."""
    return Table(
        ["node", "host", "state", "duration", "result"], [_row_of_command(command) for command in commands]
    )


def as_html(headline: str, table: Table) -> str:
    """Return a table under a headline."""
    return f"<div><code>{html.escape(headline)}</code>{table._repr_html_()}</div>"


def _row_of_node(node: "Connection") -> list[Any]:
    servers = getattr(node.mesh, "servers", {})
    if (server := servers.get(node.node)) is None:
        return [node.node, node.host, "this node" if node.is_own else "", None, None, None]
    state = "closed" if node.mesh.closed else server.state
    running = [command.source for command in server.running.values()]
    runs = (
        _shorten(running[0]) + (f" and {len(running) - 1} more" if len(running) > 1 else "")
        if running
        else None
    )
    memory = _memory(server.live.get("memory_bytes"))
    return [node.node, node.host, state, runs, server.facts.get("pid"), memory]


def _row_of_command(command: "Command") -> list[Any]:
    if not command.has_ended:
        return [command.node, command.host, "running", f"{time.time() - command.made:.1f} s", None]
    state, text = "done", ""
    if (error := command.known_error) is not None:
        state, text = "failed", str(error).split("\n", 1)[0]
    elif command.read_value is not None:
        try:
            text = repr(command.result())
        except ParallelError as unreadable:
            text = f"cannot be read here: {unreadable}"
    duration = None if command.duration is None else f"{command.duration:.3g} s"
    return [command.node, command.host, state, duration, _shorten(text)]


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 3]}..."


def _memory(size: int | None) -> str | None:
    return None if size is None else f"{size / 1e6:.0f} MB"

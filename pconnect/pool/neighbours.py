"""Asks servers for the other servers that they know."""

from collections.abc import Callable, Sequence
from typing import Any

from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pconnect.session.client_mesh import ask
from pconnect.session.server import Server


def ask_neighbours(
    servers: Sequence[Server], event_loop: EventLoop, next_number: Callable[[], int], deadline: float
) -> dict[int, dict[str, Any]]:
    """Return each server's answer about the others, by node; see `pconnect.session.client_mesh.ask`."""
    return ask(servers, event_loop, Kind.NEIGHBOURS, next_number, deadline)

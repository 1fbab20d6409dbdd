"""Asking servers for the other servers that they know."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pconnect.session.server import Server


def ask_neighbours(
    servers: Sequence[Server], event_loop: EventLoop, next_number: Callable[[], int], deadline: float
) -> dict[int, dict[str, Any]]:
    """Return what some servers, all in one loop, say of others, by node; those that do not answer in time are left out.

    `next_number`: returns a number for each question, that no other has.
    """
    numbers: dict[int, int] = {}
    with event_loop.sigint_deferred:
        for server in servers:
            if server.command.error is None:
                numbers[server.node] = next_number()
                server.command.post(Kind.NEIGHBOURS, numbers[server.node])
                event_loop.flush(server.command)
    asked = [server for server in servers if server.node in numbers]
    with contextlib.suppress(TimeoutError):
        event_loop.run_until(
            lambda: all(server.has_answered(Kind.NEIGHBOURS, numbers[server.node]) for server in asked),
            deadline,
            "the members of servers",
        )
    answers = {
        server.node: server.answers.pop((Kind.NEIGHBOURS, numbers[server.node]), None) for server in asked
    }
    return {node: answer for node, answer in answers.items() if answer is not None}

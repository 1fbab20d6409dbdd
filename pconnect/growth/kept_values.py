"""Values that engines keep for jobs, sent to nodes that are added or reconnected."""

import contextlib
from collections.abc import Collection

from pconnect.commands.command_list import Commands
from pconnect.errors import ConnectionLostError
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import call_service
from srp_tools.steps import remaining


def send_kept_values(mesh: ClientMesh, numbers: Collection[int], deadline: float) -> dict[int, Exception]:
    """Send nodes the values of `net.broadcast` for all nodes, or for these, and wait until they have them.

    Returns the error of each node that lacks them; no jobs should run there.
    """
    commands = [
        call_service("broadcast.keep", [key, value], mesh.connections[number], wants_value=False)
        for key, (value, nodes) in mesh.jobs.broadcasts.items()
        for number in numbers
        if nodes is None or number in nodes
    ]
    if commands:
        with contextlib.suppress(TimeoutError):
            Commands("broadcast", commands).exception(remaining(deadline))
    failures: dict[int, Exception] = {}
    for command in commands:
        if not command.has_ended:
            late = TimeoutError("timed out sending it the values of net.broadcast")
            failures.setdefault(command.node, late)
        elif (error := command.exception()) is not None:
            why = f"it could not keep a value of net.broadcast: {error}"
            failures.setdefault(command.node, ConnectionLostError(why))
    return failures

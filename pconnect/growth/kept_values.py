"""Values that engines keep for jobs, for nodes that come later, or come back."""

import contextlib
from collections.abc import Collection

from pconnect.commands.command_list import Commands
from pconnect.errors import ConnectionLostError
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import call_service
from srp_tools.steps import remaining


def send_kept_values(mesh: ClientMesh, numbers: Collection[int], deadline: float) -> dict[int, Exception]:
    """Send what `net.broadcast` has sent to all nodes, or to one of these before, and wait until they have it.

    Returns why some nodes do not have it; no jobs should run there.
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
            late = TimeoutError("it did not get the values of net.broadcast within the time limit")
            failures.setdefault(command.node, late)
        elif (error := command.exception()) is not None:
            why = f"it could not keep a value of net.broadcast: {error}"
            failures.setdefault(command.node, ConnectionLostError(why))
    return failures

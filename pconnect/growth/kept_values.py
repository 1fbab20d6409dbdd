"""Values that engines keep for jobs, for nodes that come later, or come back."""

from collections.abc import Collection

from pconnect.commands.command_list import Commands
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import call_service
from srp_tools.steps import remaining


def send_kept_values(mesh: ClientMesh, numbers: Collection[int], deadline: float) -> None:
    """Send what `net.broadcast` has sent to all nodes, or to one of these before, and wait until they have it.

    Raises what the commands for it raise.
    """
    commands = [
        call_service("broadcast.keep", [key, value], mesh.connections[number], wants_value=False)
        for key, (value, nodes) in mesh.jobs.broadcasts.items()
        for number in numbers
        if nodes is None or number in nodes
    ]
    if commands:
        Commands("broadcast", commands).result(remaining(deadline))

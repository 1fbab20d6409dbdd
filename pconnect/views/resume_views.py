"""What a network has of a client before, to whose sessions this one has come back."""

from pconnect.commands.command import Command
from pconnect.session.remote_calls import mesh_of


class ResumeView:
    """What a network has on the client that came from ``pconnect(resume=...)``."""

    nodes: list[int]

    @property
    def resumed(self) -> bool:
        """Whether this is the network of a client before, to which this one has come back."""
        return mesh_of(self).is_resumed

    @property
    def commands(self) -> list[Command]:
        """The commands of the client before: those that run or wait, and the last ones that have ended.

        They are in the order in which they were sent, for each node one; `result` of each gives what it returned. A
        node that computes tells its commands when it has time; until then, only the one that runs there is here.
        """
        mesh = mesh_of(self)
        mesh.event_loop.look()
        return [command for command in mesh.found_commands if command.node in self.nodes]

    @property
    def values_lost(self) -> dict[int, int]:
        """By node, how many values it had sent which the client before never took, and which it does not have any more.

        A node keeps 64 MiB of them.
        """
        servers = mesh_of(self).servers
        return {node: servers[node].commands.values_lost for node in self.nodes if node in servers}

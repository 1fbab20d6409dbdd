"""`resumed`, `commands`, `values_lost`: the earlier client whose sessions this one has resumed."""

from pconnect.commands.command import Command
from pconnect.session.remote_calls import mesh_of


class ResumeView:
    """The methods of a network from ``pconnect(resume=...)``."""

    nodes: list[int]

    @property
    def resumed(self) -> bool:
        """Whether this client has returned to the sessions of an earlier client."""
        return mesh_of(self).is_resumed

    @property
    def commands(self) -> list[Command]:
        """The commands of the earlier client: those that run or wait, and the most recent ones that have ended.

        They are in the order of sending, one for each node; `result` of each returns its value. A busy node reports its
        other commands only when it has time; until then, only its running command is in the list.
        """
        mesh = mesh_of(self)
        mesh.event_loop.look()
        return [command for command in mesh.found_commands if command.node in self.nodes]

    @property
    def values_lost(self) -> dict[int, int]:
        """By node, the number of values that it sent, the earlier client never received, and the node has discarded.

        A node keeps 64 MiB of sent values.
        """
        servers = mesh_of(self).servers
        return {node: servers[node].commands.values_lost for node in self.nodes if node in servers}

"""Commands without a network, and errors of them."""

from pconnect.commands.command import Command
from pconnect.commands.remote_errors import remote_error
from pconnect.errors import RemoteError
from pconnect.link.peer import Peer
from pconnect.loop.event_loop import EventLoop


def make_command(number: int, source: str = "work()") -> Command:
    """Return a command of node 3, as it is before it is sent."""
    event_loop = EventLoop()
    event_loop.close()
    return Command(source, Peer(), (3, "host3"), number, event_loop)


def make_error(command: Command, kind: str = "ValueError") -> RemoteError:
    """Return the error of a command, of the builtin class `kind`."""
    failure = {"type": kind, "bases": [kind], "message": "no", "traceback": ""}
    return remote_error(command.node, command.host, command.source, failure)

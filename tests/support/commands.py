"""Commands without a network, and their errors."""

from pconnect.commands.command import Command
from pconnect.commands.remote_errors import remote_error
from pconnect.errors import RemoteError
from pconnect.link.peer import Peer
from pconnect.loop.event_loop import EventLoop


def make_command(number: int, source: str = "work()") -> Command:
    """Return a command for node 3 that has not been sent yet."""
    event_loop = EventLoop()
    event_loop.close()
    return Command(source, Peer(), (3, "host3"), number, event_loop)


def make_error(command: Command, kind: str = "ValueError") -> RemoteError:
    """Return the error of a command whose builtin class is `kind`."""
    failure = {"type": kind, "bases": [kind], "message": "no", "traceback": ""}
    return remote_error(command.node, command.host, command.source, failure)

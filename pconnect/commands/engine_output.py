"""Shows what the engine of one node prints and displays."""

from collections.abc import Callable
from typing import Any

from pconnect.commands.command import Command
from pconnect.commands.console import Console
from pconnect.commands.front_end_messages import Display, FrontEndMessages
from pconnect.protocol.messages import Message

_ACKNOWLEDGED_BYTES = 2**14  # of output; the supervisor drops it if it hears nothing for a second


class EngineOutput:
    """Shows what one engine prints and displays.

    Attributes
    ----------
    console
        Takes what it prints; that of the network, once there is one.
    """

    def __init__(self, node: int, host: str) -> None:
        self.console = Console()
        self._node = node
        self._host = host
        self._messages = FrontEndMessages(node, host)
        self._unacknowledged = 0  # bytes

    def take(self, message: Message, command: Command | None) -> bool:
        """Show what was printed while `command` ran; return whether to tell the supervisor that it was taken.

        Raises
        ------
        ProtocolError
            It is not the value of an OUTPUT message.
        """
        self.console.take(self._node, self._host, message.tag, message.value, command)
        self._unacknowledged += message.size
        if self._unacknowledged < _ACKNOWLEDGED_BYTES:
            return False
        self._unacknowledged = 0
        return True

    def take_front_end(
        self, message: Message, sink: Callable[[Display], object], *, trusts_displays: bool
    ) -> Warning | None:
        """Show a display, a warning or a log record; return a warning that a filter has turned into an error.

        Raises
        ------
        ProtocolError
            It is not the value of a FRONT_END message.
        """
        return self._messages.take(message.tag, message.value, sink, trusts_displays=trusts_displays)

    def show_error(self, error: BaseException) -> None:
        """Print an error that no command can raise."""
        self._messages.show_error(error)

    def end(self, command: Command | None) -> None:
        """Show what is left of the output of a command that has ended."""
        self.console.end(self._node, command)

    def end_lines(self) -> None:
        """End the lines that an engine has left open which was replaced."""
        self.console.end_lines(self._node)


def number_of_output(value: Any) -> int:
    """Return the number of the command that has printed what an OUTPUT message brings; 0 without one."""
    number = value[0] if isinstance(value, list) and value else 0
    return number if isinstance(number, int) else 0

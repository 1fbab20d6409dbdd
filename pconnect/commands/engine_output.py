"""Display of the output of one node's engine.

The end of a command arrives on the data connection, its output on the command channel. The end says how much output
there is; it takes effect once that much has been shown.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from pconnect.commands.command import Command
from pconnect.commands.console import Console
from pconnect.commands.front_end_messages import Display, FrontEndMessages
from pconnect.errors import ProtocolError
from pconnect.protocol.answer_forms import check_failure
from pconnect.protocol.messages import Message

_ACKNOWLEDGED_BYTES = 2**14  # of output; without an acknowledgement the supervisor drops it after a second


class End(NamedTuple):
    """The end of a command: its run time in seconds or its failure, and how much output preceded it."""

    number: int
    outcome: float | dict[str, Any]
    shown: tuple[int, int, int]


def read_end(number: int, value: Any) -> End:
    """Return the content of a DONE message. Raises `ProtocolError` if it is malformed."""
    match value:
        case [(float() | int() | dict()) as outcome, int() as stdout, int() as stderr, int() as displays]:
            if isinstance(outcome, dict):
                check_failure(outcome)
            return End(number, outcome, (stdout, stderr, displays))
    raise ProtocolError("not the end of a command")


class EngineOutput:
    """Shows the output and displays of one engine."""

    def __init__(self, node: int, host: str) -> None:
        self.console = Console()  #: shows the output; the network's console, once there is one
        self._node = node
        self._host = host
        self._messages = FrontEndMessages(node, host)
        self._unacknowledged = 0  # bytes
        self._shown = [0, 0, 0]  # bytes of standard output and standard error, and messages for the front end
        self._ends: deque[End] = deque()  # ends that wait for output

    def take_ends(self, end: End | None = None, *, is_complete: bool = False) -> Iterator[End]:
        """Add the end of a command; yield the ends whose output was shown, or all if no more output will arrive."""
        if end is not None:
            self._ends.append(end)
        while self._ends and (is_complete or self._is_shown(self._ends[0])):
            yield self._ends.popleft()

    def _is_shown(self, end: End) -> bool:
        shown, needed = self._shown, end.shown
        return shown[0] >= needed[0] and shown[1] >= needed[1] and shown[2] >= needed[2]

    def go_on_from(self, shown: Sequence[int]) -> None:
        """Continue after another client, which has received this much."""
        self._shown = list(shown)

    def forget(self) -> None:
        """Start over with another engine."""
        self.end(None)
        self._shown = [0, 0, 0]
        self._ends.clear()

    def take(self, message: Message, command: Command | None) -> bool:
        """Show output printed while `command` ran; return whether an acknowledgement to the supervisor is due.

        Raises `ProtocolError` if the value is not one of an OUTPUT message.
        """
        self.console.take(self._node, self._host, message.tag, message.value, command)
        _, data, dropped = message.value
        self._shown[message.tag - 1] += len(data) + dropped
        self._unacknowledged += message.size
        if self._unacknowledged < _ACKNOWLEDGED_BYTES:
            return False
        self._unacknowledged = 0
        return True

    def take_front_end(
        self, message: Message, sink: Callable[[Display], object], *, trusts_displays: bool
    ) -> Warning | None:
        """Show a display, a warning or a log record; return a warning that a filter has turned into an error.

        Raises `ProtocolError` if the value is not one of a FRONT_END message.
        """
        self._shown[2] += 1
        return self._messages.take(message.tag, message.value, sink, trusts_displays=trusts_displays)

    def show_error(self, error: BaseException) -> None:
        """Print an error that no command can raise."""
        self._messages.show_error(error)

    def end(self, command: Command | None) -> None:
        """Show the rest of the output of a command that has ended."""
        self.console.end(self._node, command)

    def end_lines(self) -> None:
        """End the lines that a replaced engine has left open."""
        self.console.end_lines(self._node)


def number_of_output(value: Any) -> int:
    """Return the number of the command that printed the output in an OUTPUT message; 0 without one."""
    number = value[0] if isinstance(value, list) and value else 0
    return number if isinstance(number, int) else 0

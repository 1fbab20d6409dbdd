"""An engine's record of commands, for a client that comes back after the previous one has vanished.

The previous client may have died before it had read a result, or before its user had seen it. So the engine keeps the
results of the last commands, whether they were sent or not, up to a limit; beyond it, the oldest values go first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pconnect.commands.remote_errors import builtin_bases
from pconnect.errors import ConnectionLostError
from pconnect.link.connection import Connection
from pconnect.protocol.kinds import Kind

_MAX_COMMANDS = 256
_MAX_SOURCE = 4096  # characters


@dataclass
class _Command:
    source: str
    has_value: bool
    link: int = 0  # the number of the link on which its value was sent
    value: bytes | None = None  # the whole message
    lost_bytes: int = 0  # size of a value that is no longer kept
    outcome: float | dict[str, Any] | None = None  # None: it has not ended yet


class CommandHistory:
    """The last commands of one engine, by number. `max_bytes`: limit for their values, as messages."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._commands: OrderedDict[int, _Command] = OrderedDict()

    def begin(self, number: int, source: str, *, has_value: bool) -> None:
        """Record a command that begins."""
        self._commands[number] = _Command(source[:_MAX_SOURCE], has_value)
        while len(self._commands) > _MAX_COMMANDS:
            _, oldest = self._commands.popitem(last=False)
            self._size -= len(oldest.value or b"")

    def keep_value(self, number: int, buffers: Sequence[bytes | memoryview], link: int) -> None:
        """Keep a copy of the value of a command, if it should be kept and fits into the limit.

        `link`: the number of the link on which it is sent to the client; -1 without a link.
        """
        size, command = sum(map(len, buffers)), self._commands[number]
        if not command.has_value:
            return
        command.link = link
        if size > self._max_bytes:
            command.lost_bytes = size
            return
        command.value = b"".join(buffers)
        self._size += size
        for other in self._commands.values():
            if self._size <= self._max_bytes:
                return
            if other.value is not None and other is not command:
                self._size -= len(other.value)
                other.lost_bytes, other.value = len(other.value), None

    def end(self, number: int, outcome: float | dict[str, Any], link: int) -> float | dict[str, Any]:
        """Record how a command ended; return the outcome for its client: a lost value counts as a failure."""
        command = self._commands.get(number)
        if command is None:
            return outcome
        command.outcome = outcome
        return _outcome_of(command) if command.lost_bytes and command.link != link else outcome

    def forget(self, number: int) -> None:
        """Forget a command."""
        command = self._commands.pop(number, None)
        if command is not None:
            self._size -= len(command.value or b"")

    def tell(self, client: Connection, waiting: Iterable[tuple[int, str, bool]], lost: int) -> None:
        """Send the whole record to a client that has come back.

        `waiting`: number, source, and whether there will be a value, of commands that have not begun. `lost`: number of
        lost values of the user's code.
        """
        for number, command in self._commands.items():
            client.post(Kind.KNOWN, number, [command.source, command.has_value])
            if command.value is not None:
                client.post_encoded([command.value])
            if command.outcome is not None:
                client.post(Kind.DONE, number, [_outcome_of(command), 0, 0, 0])
        for number, source, has_value in waiting:
            client.post(Kind.KNOWN, number, [source[:_MAX_SOURCE], has_value])
        client.post(Kind.KNOWN, 0, lost)


def _outcome_of(command: _Command) -> float | dict[str, Any]:
    outcome = command.outcome
    assert outcome is not None  # noqa: S101 - it has ended
    if isinstance(outcome, dict):
        return outcome | {"values_sent": 0}
    if not command.lost_bytes:
        return outcome
    text = (
        f"the command succeeded, but its value of {command.lost_bytes} bytes is no longer kept: a node keeps the last "
        "values up to a limit while its client is gone; assign large values to names of the workspace"
    )
    error = ConnectionLostError(text)
    return {
        "type": type(error).__name__,
        "bases": builtin_bases(error),
        "message": text,
        "traceback": text,
        "values_sent": 0,
        "seconds": outcome,
        "fields": {},
    }

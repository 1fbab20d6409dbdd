"""Commands as a table: what a notebook shows of them, made of what is known without asking a server."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

from pconnect.commands.table import Table, shorten
from pconnect.errors import ParallelError


class Tabulated(Protocol):
    """What the table needs to know about a command; see `pconnect.commands.command.Command`."""

    node: int
    host: str
    made: float

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, as far as is known."""

    @property
    def wants_value(self) -> bool:
        """Whether it returns a value."""

    @property
    def known_error(self) -> ParallelError | None:
        """The error that `result` would raise."""

    @property
    def duration(self) -> float | None:
        """How long it ran, in seconds."""

    def result(self) -> object:
        """Return the value."""


def of_commands(commands: Sequence[Tabulated]) -> Table:
    """Return a table of commands: node, state, duration, and result or error."""
    return Table(
        ["node", "host", "state", "duration", "result"], [_row_of_command(command) for command in commands]
    )


def _row_of_command(command: Tabulated) -> list[Any]:
    if not command.has_ended:
        return [command.node, command.host, "running", f"{time.time() - command.made:.1f} s", None]
    state, text = "done", ""
    if (error := command.known_error) is not None:
        state, text = "failed", str(error).split("\n", 1)[0]
    elif command.wants_value:
        try:
            text = repr(command.result())
        except ParallelError as unreadable:
            text = f"cannot be read here: {unreadable}"
    duration = None if command.duration is None else f"{command.duration:.3g} s"
    return [command.node, command.host, state, duration, shorten(text)]

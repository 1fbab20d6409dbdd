"""One command on several nodes: the return value of `reval` and the methods of a network for more than one node."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, overload

from pconnect.commands.command import Command, of_commands
from pconnect.commands.remote_errors import failure_group
from pconnect.commands.table import as_html
from pconnect.errors import UnsupportedValueError
from pconnect.loop.asyncio_bridge import in_loop
from pconnect.loop.interrupts import interrupting
from pconnect.loop.progress import ProgressBar
from pconnect.loop.progress_bars import counting, receiving
from pconnect.protocol.wait_states import COMMAND_END, Wait
from srp_tools.steps import deadline_after, remaining


class Commands(Sequence[Command]):
    """One command on several nodes: a `Command` for each, in the order of the nodes.

    Attributes
    ----------
    source
        The source text, or a description of the function call.
    number
        The highest number of the commands; usually all have the same.
    nodes
        The numbers of the nodes.
    """

    def __init__(self, source: str, commands: Iterable[Command]) -> None:
        self.source = source
        self._commands = tuple(commands)
        self._ended_count = 0  # of the first commands
        self.number = max(command.number for command in self._commands)
        self.nodes = tuple(command.node for command in self._commands)

    def __repr__(self) -> str:
        running = not all(command.has_ended for command in self)
        failed = any(command.known_error for command in self)
        state = "running" if running else "failed" if failed else "done"
        return f"<command {self.source[:40]!r} on nodes {list(self.nodes)}, {state}>"

    def _repr_html_(self) -> str:
        return as_html(repr(self), of_commands(self))

    def __len__(self) -> int:
        return len(self._commands)

    def __iter__(self) -> Iterator[Command]:
        return iter(self._commands)

    @overload
    def __getitem__(self, index: int) -> Command: ...
    @overload
    def __getitem__(self, index: slice) -> "Commands": ...
    def __getitem__(self, index: int | slice) -> "Command | Commands":
        if isinstance(index, slice):
            return Commands(self.source, self._commands[index])
        return self._commands[index]

    @property
    def stdout(self) -> list[str]:
        """The output so far, by node; see `Command.stdout`."""
        return [command.stdout for command in self]

    @property
    def stderr(self) -> list[str]:
        """The standard error so far, by node; see `Command.stderr`."""
        return [command.stderr for command in self]

    def done(self) -> bool:
        """Return whether it has ended on all nodes; never blocks."""
        return all([command.done() for command in self])  # noqa: C419 - check all of them

    def result(self, timeout: float | None = None, *, allow_pickle: bool = False) -> list[Any] | None:
        """Wait until the command has ended on all its nodes; for `allow_pickle`, see `Command.result`.

        Returns
        -------
        list or None
            The values by node, if values were requested; otherwise ``None``.

        Raises
        ------
        ExceptionGroup
            It failed on several nodes; the group has the error of each, and its text names the nodes and the first
            error. If it failed on one node, that error is raised.
        TimeoutError, KeyboardInterrupt
            As for `Command.result`, for all nodes that had not ended.
        """
        deadline = deadline_after(timeout)
        error = self.exception(timeout)
        if error is None:
            values = [command.result() for command in self]
        elif allow_pickle and all(
            isinstance(command.known_error, UnsupportedValueError | None) for command in self
        ):
            values = [command.result(remaining(deadline), allow_pickle=True) for command in self]
        else:
            raise error
        return values if any(command.wants_value for command in self) else None

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait until the command has ended on all nodes; return the error that `result` would raise, or ``None``."""
        self._wait(timeout)
        errors = {command.node: error for command in self if (error := command.exception()) is not None}
        if len(errors) < 2:
            return next(iter(errors.values()), None)
        return failure_group("the command", errors)

    def _wait(self, timeout: float | None) -> None:
        waiting = [command for command in self if not command.has_ended]
        if not waiting:
            return
        with interrupting([command.peer for command in waiting], self.number):
            if not self.done():
                waiting[0].event_loop.run_until(
                    self._ended,
                    deadline_after(timeout),
                    f"the end of {self!r}",
                    lambda: Wait(COMMAND_END, tuple(c.node for c in waiting if not c.has_ended), every=True),
                    progress_bar=self._progress_bar,
                )

    def _ended(self) -> bool:
        """Whether it has ended on all nodes; commands known to have ended are not checked again."""
        commands = self._commands
        while self._ended_count < len(commands) and commands[self._ended_count].has_ended:
            self._ended_count += 1
        return self._ended_count == len(commands)

    def _progress_bar(self) -> ProgressBar | None:
        """Return the progress of the wait: in bytes while much data arrives, otherwise in nodes."""
        sources = [source for command in self for source in command.peer.sources()]
        return receiving(sources) or counting("waiting", self)

    def cancel(self) -> bool:
        """Cancel it on all nodes, see `Command.cancel`; return whether that is true of any of them."""
        return any([command.cancel() for command in self])  # noqa: C419 - cancel all of them

    def cancelled(self) -> bool:
        """Return whether `cancel` ended it on any node."""
        return any(command.cancelled() for command in self)

    def add_done_callback(self, callback: "Callable[[Commands], object]") -> None:
        """Call `callback` with this group when it has ended on all nodes; see `Command.add_done_callback`."""
        left = iter(range(len(self) - 1))

        def end_one(_: Command) -> None:
            if next(left, None) is None:  # the last one has ended; a step of an iterator is atomic
                callback(self)

        for command in self:
            command.add_done_callback(end_one)

    def __await__(self) -> Generator[Any, None, list[Any] | None]:
        return in_loop(self, self._commands[0].event_loop).__await__()

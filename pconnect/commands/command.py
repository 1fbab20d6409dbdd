"""Commands under way: the futures that `reval` and the verbs of a network return."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from pconnect.commands.captured_output import CapturedOutput
from pconnect.commands.command_table import of_commands
from pconnect.commands.remote_errors import cancelled
from pconnect.commands.table import as_html
from pconnect.errors import ParallelError, RemoteError
from pconnect.link.connection import Peer
from pconnect.loop.asyncio_bridge import in_loop
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.interrupts import interrupting
from pconnect.loop.progress_bars import ProgressBar, counting, receiving
from pconnect.protocol.wait_states import COMMAND_END, Wait
from srp_tools.steps import deadline_after


@dataclass
class Seen:
    """Whether the error of a command was raised somewhere; what failed at several nodes is told once."""

    error: bool = False


class Command:
    """What was sent to one node to be run there; `reval` and the verbs of a network return it.

    In a coroutine, or a notebook, ``await command`` is ``command.result()`` that lets others run meanwhile; if it is
    cancelled, so is the command.

    Attributes
    ----------
    source
        The text, or how the function was called.
    node, host
        Where it runs.
    number
        Its number in the network; commands for several nodes share one.
    made
        When it was made, in seconds since 1970.
    started, finished
        Seconds since 1970, by the client's clock; ``None`` before its end.
    duration
        Seconds that it ran at the node, or ``None`` before its end.
    begun
        Whether it was sent: not to an engine that was gone before.
    cancel_asked, interrupt_asked
        Whether this client has cancelled or interrupted it.
    origin
        What the front end noted when it was made, such as the notebook's cell; ``None`` without one.
    is_quiet
        Whether what it prints is kept, but not shown; see `pconnect.quiet`.
    printed
        What it printed, by stream: 1 standard output, 2 standard error.
    """

    def __init__(
        self, source: str, peer: Peer, where: tuple[int, str], number: int, event_loop: EventLoop
    ) -> None:
        self.source = source
        self.node, self.host = where
        self.number = number
        self.finished: float | None = None
        self.duration: float | None = None
        #: With those of the same number at other nodes: whether somebody was told that it failed.
        self.seen = Seen()
        #: Makes the value from what arrives; ``None`` if no value is to come.
        self.read_value: Callable[[Any], Any] | None = None
        self.is_quiet = False
        self.origin: Any = None
        self.made = time.time()
        self.printed = {1: CapturedOutput(), 2: CapturedOutput()}
        self._peer = peer
        self._event_loop = event_loop
        self.begun = False
        self._ended = False
        self.cancel_asked = False
        self.interrupt_asked = False
        self._error: ParallelError | None = None
        self._arrived: list[Any] = []
        self._callbacks: list[Callable[[Command], object]] = []

    def __repr__(self) -> str:
        state = "running" if not self._is_done else "failed" if self._error else "done"
        return f"<command {self.source[:40]!r} at node {self.node} ({self.host}), {state}>"

    @property
    def started(self) -> float | None:
        """When it began to run."""
        return None if self.finished is None or self.duration is None else self.finished - self.duration

    @property
    def stdout(self) -> str:
        """What it has printed so far, as far as it has arrived: whenever the client is inside a call of this package.

        The last MiB is kept. If something is missing, the text begins with a line in parentheses that says how many
        bytes are.
        """
        return self.printed[1].text()

    @property
    def stderr(self) -> str:
        """The same for standard error."""
        return self.printed[2].text()

    def _repr_html_(self) -> str:
        return as_html(repr(self), of_commands([self]))

    @property
    def known_error(self) -> ParallelError | None:
        """The error that `result` would raise, as far as is known; unlike by `exception`, it is not taken as seen."""
        return self._error

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, as far as is known; unlike `done`, this looks for no news."""
        return self._is_done

    @property
    def _is_done(self) -> bool:
        return self._ended and (self._error is not None or self.read_value is None or bool(self._arrived))

    def done(self) -> bool:
        """Return whether it has ended, one way or another; never waits."""
        if not self._is_done and self._event_loop.is_open:
            with self._event_loop.sigint_deferred:
                self._event_loop.poll(0)
        return self._is_done

    def result(self, timeout: float | None = None) -> Any:
        """Wait until the command has ended.

        Parameters
        ----------
        timeout
            Limit in seconds; ``None`` waits without limit.

        Returns
        -------
        object
            Its value, if it was sent for one; else ``None``.

        Raises
        ------
        RemoteError
            It failed; the text has the remote traceback. If the error there was a builtin exception, so is this one.
            The node goes on with the next command.
        UnreadableValueError
            Its value arrived, and cannot be made here.
        EngineDiedError, ConnectionLostError
            The engine, the server or its machine is gone. The other nodes live on.
        DeadlockError
            Nobody can go on: the command waits, directly or through others, for this client. It has failed, too.
        TimeoutError
            The limit passed; the command goes on.
        KeyboardInterrupt
            Ctrl-C: the command was interrupted (after a second Ctrl-C its engine is killed); the network is as usable
            as before.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return None if self.read_value is None else self.read_value(self._arrived[0])

    def exception(self, timeout: float | None = None) -> ParallelError | None:
        """Wait until the command has ended; return the error that `result` raises, or ``None``.

        Raises
        ------
        TimeoutError, KeyboardInterrupt
            As by `result`.
        """
        self._wait(timeout)
        if self._error is not None:
            self.seen.error = True
        return self._error

    def _wait(self, timeout: float | None) -> None:
        if self._is_done:
            return
        with interrupting([self._peer], self.number):
            if not self.done():
                self._event_loop.run_until(
                    lambda: self._is_done,
                    deadline_after(timeout),
                    f"the end of {self!r}",
                    lambda: Wait(COMMAND_END, (self.node,)),
                    gauge=lambda: receiving(self._peer.sources()),
                )

    def cancel(self) -> bool:
        """Interrupt it, or keep it from beginning; never waits. The second time, kill its engine.

        Returns
        -------
        bool
            Whether it was still under way. Its `result` then raises an error that is also a
            `concurrent.futures.CancelledError`, unless it ends in another way first.
        """
        if self.done():
            return False
        self.cancel_asked = True
        self._peer.cancel(self.number)
        return True

    def cancelled(self) -> bool:
        """Return whether it ended because of `cancel`."""
        return self.cancel_asked and isinstance(self._error, RemoteError) and self._error.is_interrupt

    def __await__(self) -> Generator[Any, None, Any]:
        return in_loop(self, self._event_loop).__await__()

    def add_done_callback(self, callback: "Callable[[Command], object]") -> None:
        """Call `callback` with this command when it has ended, in a later call of this package; or now, if it has."""
        if self._is_done:
            callback(self)
        else:
            self._callbacks.append(callback)

    # --- for the library ---

    @property
    def calls_back(self) -> bool:
        """Whether its end will call functions of the user."""
        return bool(self._callbacks)

    def finish(self, error: ParallelError | None, duration: float | None = None) -> None:
        """Take note that it has ended."""
        if self._ended:
            return
        if isinstance(error, RemoteError) and self.cancel_asked and error.is_interrupt:
            error = cancelled(error)
        self._ended, self._error = True, error
        self.finished, self.duration = time.time(), duration
        self._look_whether_done()

    def arrive(self, value: object) -> None:
        """Take the value, which comes on a connection of its own."""
        self._arrived = [value]
        self._look_whether_done()

    def lose_value(self, error: ParallelError) -> None:
        """Take note that no value can come any more."""
        if self._ended and not self._is_done:
            self._error = error
            self._look_whether_done()

    def _look_whether_done(self) -> None:
        if self._is_done:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback(self)


class Commands(Sequence[Command]):
    """One command at several nodes: a `Command` for each, in the order of the nodes.

    Attributes
    ----------
    source
        The text, or how the function was called.
    number
        The highest of the commands' numbers; mostly they have the same.
    nodes
        Numbers of the nodes.
    """

    def __init__(self, source: str, commands: Iterable[Command]) -> None:
        self.source = source
        self._commands = tuple(commands)
        self.number = max(command.number for command in self._commands)
        self.nodes = tuple(command.node for command in self._commands)

    def __repr__(self) -> str:
        running = not all(command._is_done for command in self)
        failed = any(command._error for command in self)
        state = "running" if running else "failed" if failed else "done"
        return f"<command {self.source[:40]!r} at nodes {list(self.nodes)}, {state}>"

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
        """What it has printed so far, by node; see `Command.stdout`."""
        return [command.stdout for command in self]

    @property
    def stderr(self) -> list[str]:
        """The same for standard error."""
        return [command.stderr for command in self]

    def done(self) -> bool:
        """Return whether it has ended at all nodes; never waits."""
        return all([command.done() for command in self])  # noqa: C419 - all are looked at

    def result(self, timeout: float | None = None) -> list[Any] | None:
        """Wait until the command has ended at all its nodes.

        Returns
        -------
        list or None
            The values by node, if it was sent for values; else ``None``.

        Raises
        ------
        ExceptionGroup
            It failed at several nodes; the group has the error of each. If it failed at one, that error is raised.
        TimeoutError, KeyboardInterrupt
            As by `Command.result`, for all nodes that were still waited for.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        values = [command.result() for command in self]
        return values if any(command.read_value for command in self) else None

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait until the command has ended at all nodes; return the error that `result` raises, or ``None``."""
        self._wait(timeout)
        errors = [error for command in self if (error := command.exception()) is not None]
        if len(errors) < 2:
            return errors[0] if errors else None
        return ExceptionGroup(f"the command failed at {len(errors)} nodes", errors)

    def _wait(self, timeout: float | None) -> None:
        waiting = [command for command in self if not command._is_done]
        if not waiting:
            return
        with interrupting([command._peer for command in waiting], self.number):
            if not self.done():
                waiting[0]._event_loop.run_until(
                    lambda: all(command._is_done for command in waiting),
                    deadline_after(timeout),
                    f"the end of {self!r}",
                    lambda: Wait(COMMAND_END, tuple(c.node for c in waiting if not c._is_done), every=True),
                    gauge=self._gauge,
                )

    def _gauge(self) -> ProgressBar | None:
        """Return how far the wait is: in bytes while much arrives, else in nodes."""
        sources = [source for command in self for source in command._peer.sources()]
        return receiving(sources) or counting("waiting", self)

    def cancel(self) -> bool:
        """Cancel it at all nodes, see `Command.cancel`; return whether it was still under way at any."""
        return any([command.cancel() for command in self])  # noqa: C419 - all are cancelled

    def cancelled(self) -> bool:
        """Return whether it ended because of `cancel` at any node."""
        return any(command.cancelled() for command in self)

    def __await__(self) -> Generator[Any, None, list[Any] | None]:
        return in_loop(self, self._commands[0]._event_loop).__await__()

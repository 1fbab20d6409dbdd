"""A command on one node: the future that `reval` and the methods of a network return.

The end of a command and its value arrive on different connections, in any order. So a command may have *ended* without
being *done*.
"""

import functools
import logging
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pconnect.commands.captured_output import CapturedOutput
from pconnect.commands.remote_errors import cancelled
from pconnect.commands.table import Table, as_html, shorten
from pconnect.errors import ParallelError, RemoteError, UnsupportedValueError
from pconnect.link.peer import Peer
from pconnect.link.queues import finished
from pconnect.loop.asyncio_bridge import in_loop
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.interrupts import interrupting
from pconnect.loop.progress_bars import receiving
from pconnect.protocol.wait_states import COMMAND_END, Wait
from pconnect.public_names import PublicNames
from srp_tools.steps import deadline_after, remaining

log = logging.getLogger("pconnect")

T = TypeVar("T")


class Outcome:
    """The outcome of one command so far."""

    __slots__ = ("_arrived", "callbacks", "duration", "error", "fetch_kept", "finished", "read_value")

    def __init__(self) -> None:
        #: Why the command failed, or why its value cannot arrive; otherwise ``None``.
        self.error: ParallelError | None = None
        self.finished: float | None = None  #: when it ended, in seconds since 1970; ``None`` before
        self.duration: float | None = None  #: seconds that it ran on the node; ``None`` if unknown
        #: Makes the value from the received data; ``None`` if no value is expected.
        self.read_value: Callable[[Any], Any] | None = None
        #: Fetches a value that the node keeps because it cannot be sent; ``None`` if there is none.
        self.fetch_kept: Callable[..., Any] | None = None
        self.callbacks: list[Callable[[Any], object]] = []  #: functions to call once it is done
        self._arrived: tuple[object, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether nothing more is expected."""
        return self.finished is not None and (
            self.error is not None or self.read_value is None or bool(self._arrived)
        )

    @property
    def value(self) -> Any:
        """The value of a successful command after `make_value`; ``None`` if it returns none."""
        return None if self.read_value is None else self.read_value(self._arrived[0])

    def make_value(self, deadline: float) -> None:
        """Make the value of a successful command from the received data.

        Raises `UnreadableValueError` or `ProtocolError` if the data cannot be rebuilt here, or is malformed. Raises
        `TimeoutError` if the deadline passes. It may be called again.
        """
        if self._arrived:
            self._arrived = (finished(self._arrived[0], deadline),)

    def end(self, error: ParallelError | None, duration: float | None, now: float) -> bool:
        """Record the end; return whether it is the first one. Later ones are ignored."""
        if self.finished is not None:
            return False
        self.error, self.duration, self.finished = error, duration, now
        return True

    def arrive(self, value: object) -> None:
        """Record the data from which the value is made."""
        self._arrived = (value,)

    def lose_value(self, error: ParallelError) -> bool:
        """Record that the value can no longer arrive; return whether it was still missing."""
        if self.finished is None or self.is_done:
            return False
        self.error = error
        return True

    def take_callbacks(self) -> list[Callable[[Any], object]]:
        """Return the callbacks that are due. Each callback is returned once."""
        if not self.is_done or not self.callbacks:
            return []
        callbacks, self.callbacks = self.callbacks, []
        return callbacks


@dataclass
class Seen:
    """Whether the error of a command was raised; commands for several nodes share it, so it is reported once."""

    error: bool = False


class Command(PublicNames):
    """A command that runs on one node; `reval` and the methods of a network return it.

    In a coroutine or a notebook, ``await command`` waits like ``command.result()`` while other tasks run; cancelling
    the task cancels the command.

    Attributes
    ----------
    source
        The source text, or a description of the function call.
    node, host
        The node that it runs on.
    number
        Its number in the network; the commands that one call sends to several nodes share it.
    made
        When it was created, in seconds since 1970.
    started, finished
        Start and end in seconds since 1970, by the client's clock; ``None`` before the end.
    duration
        Seconds that it ran on the node; ``None`` before the end.
    begun
        Whether it was sent; it is not if the engine was already gone.
    cancel_asked, interrupt_asked
        Whether this client has cancelled or interrupted it.
    origin
        A front end's note on where it was created, such as the notebook's cell; ``None`` without one.
    is_quiet
        Whether its output is kept but not shown; see `pconnect.quiet`.
    printed
        Its output by stream: 1 standard output, 2 standard error.
    """

    _for_users = (
        "add_done_callback", "begun", "cancel", "cancel_asked", "cancelled", "done", "duration", "exception",
        "finished", "host", "interrupt_asked", "is_quiet", "made", "node", "number", "origin", "printed", "result",
        "source", "started", "stderr", "stdout",
    )  # fmt: skip

    def __init__(
        self, source: str, peer: Peer, where: tuple[int, str], number: int, event_loop: EventLoop
    ) -> None:
        self.source = source
        self.node, self.host = where
        self.number = number
        #: Whether its failure has been reported; the commands of one number share this.
        self.seen = Seen()
        self.is_quiet = False
        self.origin: Any = None
        self.made = time.time()
        self.printed = {1: CapturedOutput(), 2: CapturedOutput()}
        self.begun = False
        self.cancel_asked = False
        self.interrupt_asked = False
        self._outcome = Outcome()
        self.peer = peer
        self.event_loop = event_loop

    def __repr__(self) -> str:
        state = "running" if not self.has_ended else "failed" if self.known_error else "done"
        return f"<command {self.source[:40]!r} on node {self.node} ({self.host}), {state}>"

    @property
    def finished(self) -> float | None:
        """When it ended; ``None`` before that."""
        return self._outcome.finished

    @property
    def duration(self) -> float | None:
        """Seconds that it ran on the node; ``None`` before its end."""
        return self._outcome.duration

    @property
    def started(self) -> float | None:
        """When it began to run; ``None`` before its end."""
        finished, duration = self._outcome.finished, self._outcome.duration
        return None if finished is None or duration is None else finished - duration

    @property
    def stdout(self) -> str:
        """Its standard output so far. Output arrives while the client is inside a call of this package.

        The last MiB is kept. If some output is missing, the text begins with a line in parentheses that says how many
        bytes.
        """
        return self.printed[1].text()

    @property
    def stderr(self) -> str:
        """Its standard error, like `stdout`."""
        return self.printed[2].text()

    def _repr_html_(self) -> str:
        return as_html(repr(self), of_commands([self]))

    @property
    def known_error(self) -> ParallelError | None:
        """The error that `result` would raise, as far as is known; unlike `exception`, it does not mark it as seen."""
        return self._outcome.error

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, as far as is known; unlike `done`, this does not read new messages."""
        return self._outcome.is_done

    @property
    def wants_value(self) -> bool:
        """Whether it returns a value."""
        return self._outcome.read_value is not None

    def done(self) -> bool:
        """Return whether it has ended, successfully or not; never blocks."""
        if not self._outcome.is_done:
            self.event_loop.look()
        return self._outcome.is_done

    def result(self, timeout: float | None = None, *, allow_pickle: bool = False) -> Any:
        """Wait until the command has ended, and return its value.

        Parameters
        ----------
        timeout
            Limit for the wait, in seconds; ``None`` waits without limit.
        allow_pickle
            Fetch a value that could not be sent and that the node has kept, as the error says. It is pickled, and
            unpickling runs code that the server chooses.

        Returns
        -------
        object
            Its value, if one was requested; otherwise ``None``.

        Raises
        ------
        RemoteError
            The command failed; the text has the remote traceback. If the remote exception was a built-in one, so is
            this error. The node continues with the next command.
        UnreadableValueError
            Its value arrived but cannot be rebuilt here.
        EngineDiedError, ConnectionLostError
            The engine, the server or its machine is gone. The other nodes are not affected.
        DeadlockError
            No node can make progress: the command waits for this client, perhaps through others. It failed, too.
        TimeoutError
            The limit passed. The command keeps running; if a large value has arrived, the next call rebuilds it.
        KeyboardInterrupt
            You pressed Ctrl-C. The command was interrupted (a second Ctrl-C kills its engine); the network is as usable
            as before.
        """
        deadline = deadline_after(timeout)
        error = self.exception(timeout)
        if error is not None:
            if allow_pickle and isinstance(error, UnsupportedValueError) and self._outcome.fetch_kept:
                return self._outcome.fetch_kept(self, error, remaining(deadline))
            raise error
        # A limit of 0 means not to wait, but use a value that has arrived.
        self._outcome.make_value(math.inf if timeout == 0 else deadline)
        return self._outcome.value

    def exception(self, timeout: float | None = None) -> ParallelError | None:
        """Wait until the command has ended; return the error that `result` would raise, or ``None``.

        Raises
        ------
        TimeoutError, KeyboardInterrupt
            As for `result`.
        """
        self._wait(timeout)
        error = self._outcome.error
        if error is not None:
            self.seen.error = True
        return error

    def _wait(self, timeout: float | None) -> None:
        outcome = self._outcome
        if outcome.is_done:
            return
        with interrupting([self.peer], self.number):
            if not self.done():
                self.event_loop.run_until(
                    lambda: outcome.is_done,
                    deadline_after(timeout),
                    f"the end of {self!r}",
                    lambda: Wait(COMMAND_END, (self.node,)),
                    progress_bar=lambda: receiving(self.peer.sources()),
                )

    def cancel(self) -> bool:
        """Interrupt the command, or remove it from the queue. Never blocks. A second call kills the engine.

        Returns
        -------
        bool
            Whether it was still running or waiting, or had been cancelled before. Its `result` then raises an error
            that is also a `concurrent.futures.CancelledError`, unless it ends in another way first.
        """
        if self.done():
            return self.cancelled()
        with self.event_loop.sigint_deferred:
            self.cancel_asked = True
            self.peer.cancel(self.number)
        return True

    def cancelled(self) -> bool:
        """Return whether `cancel` ended it."""
        error = self._outcome.error
        return self.cancel_asked and isinstance(error, RemoteError) and error.is_interrupt

    def __await__(self) -> Generator[Any, None, Any]:
        return in_loop(self, self.event_loop).__await__()

    def add_done_callback(self, callback: "Callable[[Command], object]") -> None:
        """Call `callback` with this command when it has ended, during a later call of this package; or now, if it has.

        It is called once, by the thread that learns of the end, and may make any call. Exceptions are logged and
        otherwise ignored, but for those that are not an `Exception`, such as KeyboardInterrupt.
        """
        with self.event_loop.sigint_deferred:
            if not self._outcome.is_done:
                self._outcome.callbacks.append(callback)
                return
        call_back(callback, self)

    # --- for the library ---

    @property
    def calls_back(self) -> bool:
        """Whether callbacks of the user are still to be called."""
        return bool(self._outcome.callbacks)

    def expect_value(
        self, read_value: Callable[[Any], Any], fetch_kept: Callable[..., Any] | None = None
    ) -> None:
        """Request a value, which `read_value` makes from the received data. Must be called before the command is sent.

        `fetch_kept`: called with this command, its error and a time limit, if the node keeps an unsendable value.
        """
        self._outcome.read_value, self._outcome.fetch_kept = read_value, fetch_kept

    def finish(self, error: ParallelError | None, duration: float | None = None) -> None:
        """Record the end; only the first one counts."""
        if isinstance(error, RemoteError) and self.cancel_asked and error.is_interrupt:
            error = cancelled(error)
        if self._outcome.end(error, duration, time.time()):
            self._call_back()

    def arrive(self, value: object) -> None:
        """Record the value, which arrives on the data connection."""
        self._outcome.arrive(value)
        self._call_back()

    def lose_value(self, error: ParallelError) -> None:
        """Record that the value can no longer arrive. The command has failed if it still lacks its value."""
        if self._outcome.lose_value(error):
            self._call_back()

    def abandon(self, error: ParallelError) -> None:
        """End it in a fork of the process that has sent it; only the parent runs the callbacks."""
        self._outcome.callbacks.clear()
        self._outcome.end(error, None, time.time())
        self._outcome.lose_value(error)

    def _call_back(self) -> None:
        callbacks = self._outcome.take_callbacks()
        for callback in callbacks:
            self.event_loop.turns.call_soon(functools.partial(call_back, callback, self))


def call_back(callback: Callable[[T], object], future: T) -> None:
    """Call a function of the user for an ended future; log its error, like futures of the standard library."""
    try:
        callback(future)
    except Exception:
        log.exception("exception calling callback for %r", future)


def of_commands(commands: Sequence[Command]) -> Table:
    """Return a table of commands: node, state, duration, and result or error."""
    return Table(
        ["node", "host", "state", "duration", "result"], [_row_of_command(command) for command in commands]
    )


def _row_of_command(command: Command) -> list[Any]:
    if not command.has_ended:
        return [command.node, command.host, "running", f"{time.time() - command.made:.1f} s", None]
    state, text = "done", ""
    if (error := command.known_error) is not None:
        state, text = "failed", str(error).split("\n", 1)[0]
    elif command.wants_value:
        try:
            text = repr(command.result())
        except ParallelError as unreadable:
            text = f"cannot be rebuilt here: {unreadable}"
    duration = None if command.duration is None else f"{command.duration:.3g} s"
    return [command.node, command.host, state, duration, shorten(text)]

"""A command on one node: the future that `reval` and the verbs of a network return.

The end of a command and its value come on different connections, in any order. So a command may have *ended* and not be
*done* yet.
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
    """What has become of one command so far."""

    __slots__ = ("_arrived", "callbacks", "duration", "error", "fetch_kept", "finished", "read_value")

    def __init__(self) -> None:
        #: Why it failed, or why its value cannot come; ``None`` otherwise.
        self.error: ParallelError | None = None
        self.finished: float | None = None  #: when it ended, in seconds since 1970; ``None`` before
        self.duration: float | None = None  #: seconds that it ran on the node; ``None`` if that is not known
        #: Makes the value from what arrives; ``None`` if no value is to come.
        self.read_value: Callable[[Any], Any] | None = None
        #: Fetches a value that the node keeps because it cannot be sent; ``None`` if it keeps none.
        self.fetch_kept: Callable[..., Any] | None = None
        self.callbacks: list[Callable[[Any], object]] = []  #: what is to be called once it is done
        self._arrived: tuple[object, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to come."""
        return self.finished is not None and (
            self.error is not None or self.read_value is None or bool(self._arrived)
        )

    @property
    def value(self) -> Any:
        """The value of a command that is done and has not failed, see `make_value`; ``None`` if it returns none."""
        return None if self.read_value is None else self.read_value(self._arrived[0])

    def make_value(self, deadline: float) -> None:
        """Make what has arrived, of a command that is done and has not failed.

        Raises `UnreadableValueError` or `ProtocolError` if it cannot be made here, or is malformed. Raises
        `TimeoutError` if the deadline passes. It may be called again.
        """
        if self._arrived:
            self._arrived = (finished(self._arrived[0], deadline),)

    def end(self, error: ParallelError | None, duration: float | None, now: float) -> bool:
        """Record the end; return whether this is the first one. Others are ignored."""
        if self.finished is not None:
            return False
        self.error, self.duration, self.finished = error, duration, now
        return True

    def arrive(self, value: object) -> None:
        """Record what the value is made from."""
        self._arrived = (value,)

    def lose_value(self, error: ParallelError) -> bool:
        """Record that no value can come any more; return whether one was still missing."""
        if self.finished is None or self.is_done:
            return False
        self.error = error
        return True

    def take_callbacks(self) -> list[Callable[[Any], object]]:
        """Return what is to be called now. Each callback is returned once."""
        if not self.is_done or not self.callbacks:
            return []
        callbacks, self.callbacks = self.callbacks, []
        return callbacks


@dataclass
class Seen:
    """Whether the error of a command was raised somewhere; a failure on several nodes is reported once."""

    error: bool = False


class Command(PublicNames):
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
        #: Whether somebody has learned that it failed; the commands of one number share it.
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
        """When it ended; ``None`` before."""
        return self._outcome.finished

    @property
    def duration(self) -> float | None:
        """Seconds that it ran on the node; ``None`` before its end."""
        return self._outcome.duration

    @property
    def started(self) -> float | None:
        """When it began to run."""
        finished, duration = self._outcome.finished, self._outcome.duration
        return None if finished is None or duration is None else finished - duration

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
        return self._outcome.error

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, as far as is known; unlike `done`, this looks for no news."""
        return self._outcome.is_done

    @property
    def wants_value(self) -> bool:
        """Whether it returns a value."""
        return self._outcome.read_value is not None

    def done(self) -> bool:
        """Return whether it has ended, one way or another; never waits."""
        if not self._outcome.is_done:
            self.event_loop.look()
        return self._outcome.is_done

    def result(self, timeout: float | None = None, *, allow_pickle: bool = False) -> Any:
        """Wait until the command has ended.

        Parameters
        ----------
        timeout
            Limit in seconds; ``None`` waits without limit.
        allow_pickle
            Fetch a value which could not be sent, and which the node keeps since then: the error says so. It comes by
            pickle, and unpickling runs code that the server chooses.

        Returns
        -------
        object
            Its value, if it was sent for one; else ``None``.

        Raises
        ------
        RemoteError
            It failed; the text has the remote traceback. If the error there was a builtin exception, so is this one.
            The node continues with the next command.
        UnreadableValueError
            Its value arrived, and cannot be made here.
        EngineDiedError, ConnectionLostError
            The engine, the server or its machine is gone. The other nodes live on.
        DeadlockError
            Nobody can go on: the command waits, directly or through others, for this client. It has failed, too.
        TimeoutError
            The limit passed; the command goes on, or a large value that has arrived is made by the next call.
        KeyboardInterrupt
            Ctrl-C: the command was interrupted (after a second Ctrl-C its engine is killed); the network is as usable
            as before.
        """
        deadline = deadline_after(timeout)
        error = self.exception(timeout)
        if error is not None:
            if allow_pickle and isinstance(error, UnsupportedValueError) and self._outcome.fetch_kept:
                return self._outcome.fetch_kept(self, error, remaining(deadline))
            raise error
        # A limit of 0 means: not to wait. What is here is here.
        self._outcome.make_value(math.inf if timeout == 0 else deadline)
        return self._outcome.value

    def exception(self, timeout: float | None = None) -> ParallelError | None:
        """Wait until the command has ended; return the error that `result` raises, or ``None``.

        Raises
        ------
        TimeoutError, KeyboardInterrupt
            As by `result`.
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
        """Interrupt it, or keep it from beginning; never waits. The second time, kill its engine.

        Returns
        -------
        bool
            Whether it was still under way, or had been cancelled before. Its `result` then raises an error that is also
            a `concurrent.futures.CancelledError`, unless it ends in another way first.
        """
        if self.done():
            return self.cancelled()
        with self.event_loop.sigint_deferred:
            self.cancel_asked = True
            self.peer.cancel(self.number)
        return True

    def cancelled(self) -> bool:
        """Return whether it ended because of `cancel`."""
        error = self._outcome.error
        return self.cancel_asked and isinstance(error, RemoteError) and error.is_interrupt

    def __await__(self) -> Generator[Any, None, Any]:
        return in_loop(self, self.event_loop).__await__()

    def add_done_callback(self, callback: "Callable[[Command], object]") -> None:
        """Call `callback` with this command when it has ended, in a later call of this package; or now, if it has.

        It is called once, by the thread that learns of the end, and may make any call. What it raises is logged, and
        harms nobody; only what is no `Exception`, such as KeyboardInterrupt, is raised by the call that it comes from.
        """
        with self.event_loop.sigint_deferred:
            if not self._outcome.is_done:
                self._outcome.callbacks.append(callback)
                return
        call_back(callback, self)

    # --- for the library ---

    @property
    def calls_back(self) -> bool:
        """Whether the user has added callbacks that are still to be called."""
        return bool(self._outcome.callbacks)

    def expect_value(
        self, read_value: Callable[[Any], Any], fetch_kept: Callable[..., Any] | None = None
    ) -> None:
        """Ask for a value, which `read_value` makes from what arrives. To be called before the command is sent.

        `fetch_kept`: called with this command, its error and a time limit, where the node keeps what cannot be sent.
        """
        self._outcome.read_value, self._outcome.fetch_kept = read_value, fetch_kept

    def finish(self, error: ParallelError | None, duration: float | None = None) -> None:
        """Record its end; only the first one counts."""
        if isinstance(error, RemoteError) and self.cancel_asked and error.is_interrupt:
            error = cancelled(error)
        if self._outcome.end(error, duration, time.time()):
            self._call_back()

    def arrive(self, value: object) -> None:
        """Record the value, which comes on the data connection."""
        self._outcome.arrive(value)
        self._call_back()

    def lose_value(self, error: ParallelError) -> None:
        """Record that no value can come any more. The command has failed if it still lacks its value."""
        if self._outcome.lose_value(error):
            self._call_back()

    def abandon(self, error: ParallelError) -> None:
        """End it in a process forked from the one that has sent it, which alone calls back."""
        self._outcome.callbacks.clear()
        self._outcome.end(error, None, time.time())
        self._outcome.lose_value(error)

    def _call_back(self) -> None:
        callbacks = self._outcome.take_callbacks()
        for callback in callbacks:
            self.event_loop.turns.call_soon(functools.partial(call_back, callback, self))


def call_back(callback: Callable[[T], object], future: T) -> None:
    """Call a function of the user for what has ended; its error is logged, as by futures of the standard library."""
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
            text = f"cannot be read here: {unreadable}"
    duration = None if command.duration is None else f"{command.duration:.3g} s"
    return [command.node, command.host, state, duration, shorten(text)]

"""The client's view of its servers: commands under way, their errors, and what became of the engines."""

import contextlib
import math
import time
import warnings
from collections import deque
from typing import Any
from weakref import WeakValueDictionary

from pconnect.commands.captured_output import with_last_words
from pconnect.commands.command import Command
from pconnect.commands.console import Console
from pconnect.commands.front_end_messages import FrontEndMessages, describe_warning
from pconnect.commands.remote_errors import remote_error
from pconnect.errors import (
    CollectiveError,
    DeadlockError,
    EngineDiedError,
    ParallelError,
    RemoteError,
    shown_source,
)
from pconnect.link.connection import LIBRARY_TAGS, Connection, Peer
from pconnect.protocol.frames import Kind
from pconnect.protocol.messages import Message
from pconnect.session.deadlock_detector import Rounds
from srp_tools.steps import deadline_after

# A data connection that breaks and the supervisor's report of the engine's death come on different ways; so long, in
# seconds, one waits for the other.
_REPORT_GRACE = 1.0
_ACKNOWLEDGED_BYTES = 2**14  # of output; the supervisor drops it if it hears nothing for a second


class Server(Peer):
    """One node of the network other than the client, as the client knows it.

    Attributes
    ----------
    command
        The command channel, to its supervisor.
    data
        The data connection, to its engine.
    facts
        What it told when the network was made.
    rounds
        Takes its answers to the search for deadlocks.
    live
        What it told when it was asked last.
    console
        Takes what its engine prints; the network's, once there is one.
    """

    def __init__(self, command: Connection, offer: dict[str, Any], address: str, cmd_port: int) -> None:
        self.node = command.node
        self.host = command.host
        self.command = command
        self.offer = offer
        self.address = address
        self.cmd_port = cmd_port
        self.facts: dict[str, Any] = {}
        self.live: dict[str, Any] = {}
        self.heard_at: float | None = None  # when it last answered a question
        self.meshed = False
        self.rounds = Rounds()
        self.freed = 0  # number of the last command that was told of a deadlock
        self.remarks = 0  # messages sent to the supervisor that change nothing there: TAKEN, PROBE
        self.running: dict[int, Command] = {}  # by number
        # Also those that have ended and whose values are still to come; nobody waits for those that are not here.
        self._known: WeakValueDictionary[int, Command] = WeakValueDictionary()
        self.answers: dict[int, dict[str, Any]] = {}
        self.attach(Connection(self.node, self.host, None))
        self.last_error: str | None = None
        self.closed_by_force: bool | None = None
        self._unseen: deque[tuple[Command, RemoteError, int]] = deque()
        self._failure: tuple[Command, RemoteError, int] | None = None  # the last one, asked for or not
        self.last_finished = 0  # number of the last command that the engine has ended
        self.last_failed = -1  # number of the last command that failed here
        self._died: EngineDiedError | None = None
        self._died_at = 0.0
        self._ran_at = -math.inf  # when a command ended last
        self._interrupted_up_to = 0
        self._cancelled: set[int] = set()
        self.closing = False
        #: From the request to restart the engine until the new one is a member of the network, or has failed.
        self.is_restarting = False
        self.restart_answers: dict[int, str | None] = {}  # by number: why there is no new engine, if so
        self._notes = FrontEndMessages(self.node, self.host)
        self._warnings: dict[int, Warning] = {}  # that filters turned into errors, by number of the command
        self.console = Console()
        self._unacknowledged = 0  # bytes of output
        command.on_message = self._take
        command.on_lost = lambda _: self.lose_commands(command.loss())
        command.peer = self

    @property
    def state(self) -> str:
        """``open``, ``died`` (its engine) or ``lost`` (its server or machine)."""
        if self.command.error or self.data.error:
            return "died" if self._died else "lost"
        return "died" if self._died else "open"

    @property
    def busy(self) -> bool:
        """Whether commands are under way, or were a moment ago, so that what they sent may still be on its way.

        Of a node that is gone others speak.
        """
        gone = self._died or self.command.error
        return bool(self.running or gone) or time.monotonic() - self._ran_at < _REPORT_GRACE

    def attach(self, data: Connection) -> None:
        """Take over the data connection."""
        self.data = data
        data.peer = self
        data.on_library_value = self._take_value
        data.on_lost = lambda _: self._lose_values()

    def check(self) -> None:
        """Raise what makes waiting for a value of this node useless.

        An error of a command is raised once, and only after all values that the engine sent before it have arrived.
        """
        while self._unseen and self._unseen[0][0].seen.error:
            self._unseen.popleft()
        if self._unseen and self.data.values_received >= self._unseen[0][2]:
            command, error, _ = self._unseen.popleft()
            command.seen.error = True
            raise error
        self._check_alive()

    def check_epoch(self, epoch: int) -> None:
        """Raise what makes waiting for this node's part in a collective call useless."""
        if (
            self._failure
            and self._failure[0].number >= epoch
            and self.data.values_received >= self._failure[2]
        ):
            self._failure[0].seen.error = True
            raise self._failure[1]
        self._check_alive()

    def _check_alive(self) -> None:
        if self._died and time.monotonic() - self._died_at > _REPORT_GRACE:
            raise self._died
        if self.command.error:
            raise self.command.loss()

    @property
    def calls_back(self) -> bool:
        """Whether the end of a command here will call functions of the user."""
        return any(command.calls_back for command in self._known.values())

    def check_running(self) -> None:
        """Raise if no command can be run here any more."""
        if self._died:
            raise self._died
        if self.command.error:
            raise self.command.loss()

    def explain(self, epoch: int | None = None) -> ParallelError | None:
        """Return the supervisor's account of what happened to the engine, after waiting a moment for it.

        With an epoch, the failure of a command since then is such an account.
        """
        event_loop = self.data.mesh.event_loop
        with contextlib.suppress(TimeoutError):
            event_loop.run_until(
                lambda: self._account(epoch) is not None, deadline_after(_REPORT_GRACE), "an account"
            )
        return self._account(epoch)

    def _account(self, epoch: int | None) -> ParallelError | None:
        if epoch is not None and self._failure and self._failure[0].number >= epoch:
            self._failure[0].seen.error = True
            return self._failure[1]
        return self._died or (self.command.loss() if self.command.error else None)

    def begin(self, command: Command, kind: Kind, contents: list[Any]) -> None:
        """Send a command, as a message of this kind; if that is impossible, it has failed."""
        try:
            self.check_running()
        except ParallelError as error:
            command.finish(error)
            return
        self.running[command.number] = self._known[command.number] = command
        self.command.post(kind, command.number, contents)
        command.begun = True

    def interrupt(self, up_to: int | None = None) -> None:
        """Interrupt the commands up to a number, or all; if one of them was interrupted before, kill the engine."""
        if not self.running or self.command.error:
            return
        if min(self.running) <= self._interrupted_up_to:
            self.command.post(Kind.KILL)
        else:
            number = max(self.running) if up_to is None else up_to
            self.command.post(Kind.INTERRUPT, number)
            self._interrupted_up_to = number
            for interrupted in [command for n, command in self.running.items() if n <= number]:
                interrupted.interrupt_asked = True
        self.command.flush()

    def cancel(self, number: int) -> None:
        """Interrupt one command, or take it from those that wait; the second time, kill the engine."""
        if number not in self.running or self.command.error:
            return
        if number in self._cancelled:
            self.command.post(Kind.KILL)
        else:
            self.command.post(Kind.CANCEL, number)
            self._cancelled.add(number)
        self.command.flush()

    def kill(self, up_to: int | None = None) -> None:
        """Kill the engine, if it runs a command up to a number, or at all."""
        if self.command.error or self._died:
            return
        if up_to is None or any(number <= up_to for number in self.running):
            self.command.post(Kind.KILL)
            self.command.flush()

    def sources(self) -> list[Connection]:
        """Return the connection on which values come."""
        return [self.data]

    def settle(self, deadline: float) -> str:
        """Wait for the end of the commands that were interrupted; return the words for the node if they do not end."""
        event_loop, up_to = self.data.mesh.event_loop, self._interrupted_up_to
        with contextlib.suppress(TimeoutError):
            event_loop.run_until(
                lambda: not any(number <= up_to for number in self.running), deadline, "interrupted commands"
            )
            return ""
        return f"node {self.node} ({self.host})"

    def lose_commands(self, error: ParallelError) -> None:
        """End all commands under way here."""
        self.console.end(self.node, None)
        for command in self.running.values():
            command.finish(error)
        self.last_failed = max([self.last_failed, *self.running])
        self.running.clear()
        self.last_error = str(error)

    def _lose_values(self) -> None:
        for command in list(self._known.values()):
            command.lose_value(self.data.loss())

    def _take_value(self, tag: int, value: object) -> None:
        command = self._known.get(tag - LIBRARY_TAGS)
        if command is not None:
            command.arrive(value)

    # --- a new engine ---

    def begin_restart(self, number: int) -> None:
        """Give up the engine: it is about to be replaced. Its commands end."""
        error = EngineDiedError(f"the engine of node {self.node} ({self.host}) was restarted")
        self.lose_commands(error)
        for command in list(self._known.values()):
            command.lose_value(error)
        self.last_failed = max(self.last_failed, number)  # the next command begins a new epoch
        self.is_restarting, self._died, self._died_at = True, error, time.monotonic()

    def renew(self) -> None:
        """Forget the old engine, after the server has: its values, failures and death."""
        self.data.mesh.event_loop.discard(self.data)
        self.data.renew()
        self.rounds.forget(self.node)  # what it was asked it will not answer, see `Rounds`
        self._unseen.clear()
        self._failure = None
        self._cancelled.clear()
        self.last_finished = 0
        self.console.end(self.node, None)
        self.facts, self.meshed = {}, False
        # Until the new one is there. If the old one had died before the server heard of the restart, we know by now.
        self.is_restarting, self._died = (
            True,
            EngineDiedError(
                f"the engine of node {self.node} ({self.host}) was restarted and is not there yet"
            ),
        )

    def end_restart(self, error: Exception | None) -> None:
        """Take note that the new engine is there, or why not."""
        self.is_restarting = False
        if error is None:
            self._died = None
            self.console.end_lines(self.node)
            return
        text = f"the restart of node {self.node} ({self.host}) failed: {error}"
        self.last_error = text
        self._died, self._died_at = EngineDiedError(text), time.monotonic()
        if self.data.is_awaited:
            self.data.lose(self._died)

    def report_unseen(self) -> None:
        """Warn of errors that nobody asked for; for the end of the network."""
        for command, error, _ in self._unseen:
            if not command.seen.error:
                warnings.warn(f"nobody asked for this error: {error}", RuntimeWarning, stacklevel=5)

    def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.DONE:
                self._finish(message.tag, message.value)
            case Kind.OUTPUT:
                self._take_output(message)
            case Kind.FRONT_END:
                self._take_note(message.tag, message.value)
            case Kind.MESHED:
                self.facts, self.meshed, self.live = message.value, True, {}
            case Kind.RESTART:
                self.restart_answers[message.tag] = message.value
            case Kind.FACTS:
                self.answers[message.tag] = message.value
            case Kind.STATE:
                self.rounds.take(self.node, message.tag, message.value, time.monotonic())
            case Kind.DIED:
                self._take_death(message.value["how"], message.value["last_output"])
            case Kind.STOPPING:
                self._end(f"the session of node {self.node} ({self.host}) was ended: {message.value}")
            case Kind.CLOSED:
                self.closed_by_force = message.value

    def _take_output(self, message: Message) -> None:
        number = message.value[0] if isinstance(message.value, list) and message.value else 0
        command = self._known.get(number) if isinstance(number, int) else None
        self.console.take(self.node, self.host, message.tag, message.value, command)
        self._unacknowledged += message.size
        if self._unacknowledged >= _ACKNOWLEDGED_BYTES:
            self._unacknowledged = 0
            self.remarks += 1
            self.command.post(Kind.TAKEN)

    def _take_death(self, how: str, last_output: str) -> None:
        words = f"the engine of node {self.node} ({self.host}) died: {how}"
        command = self.running[min(self.running)] if self.running else None
        self.console.end(self.node, command)
        if command is not None:
            words += f" in command {shown_source(command.source)!r}"
        self._end(with_last_words(words, last_output))

    def _end(self, text: str) -> None:
        self._died, self._died_at = EngineDiedError(text), time.monotonic()
        self.is_restarting = False
        self.rounds.forget(self.node)
        self.lose_commands(self._died)

    def _finish(self, number: int, outcome: float | dict[str, Any]) -> None:
        command = self.running.pop(number, None)
        self.last_finished = max(self.last_finished, number)
        self._cancelled.discard(number)
        self.console.end(self.node, command)
        if command is None:
            return
        self._ran_at = time.monotonic()
        warning = self._warnings.pop(number, None)
        if warning is not None and not isinstance(outcome, dict):
            self._finish_with_warning(command, warning, outcome)
            return
        if not isinstance(outcome, dict):
            command.finish(None, outcome)
            if self.data.error is not None:
                command.lose_value(self.data.loss())
            return
        error = remote_error(self.node, self.host, command.source, outcome)
        self._failure = command, error, outcome["values_sent"]
        self.last_failed = max(self.last_failed, number)
        if isinstance(error, DeadlockError):
            error.waits = self.rounds.found
        # What this client has found, it was told. Members of a collective call may hear of it from each other first.
        is_told = number == self.freed and isinstance(error, DeadlockError | CollectiveError)
        # A network that is closed interrupts what still runs, often the last steps of a command whose values have
        # all arrived: that is no error anybody should hear of. Who interrupts or cancels a command knows it already.
        is_known = self.closing or command.cancel_asked or command.interrupt_asked
        if not (is_told or (error.is_interrupt and is_known)):
            self._unseen.append((command, error, outcome["values_sent"]))
        self.last_error = f"{error.type_name} in {command.source[:60]!r}"
        command.finish(error, outcome["seconds"])

    def _finish_with_warning(self, command: Command, warning: Warning, duration: float) -> None:
        """Let a command fail that ended well but for a warning which is an error here."""
        # No failure for collective calls: the engine knows nothing of it.
        failure = describe_warning(warning, command.source)
        error = remote_error(self.node, self.host, command.source, failure)
        self._unseen.append((command, error, 0))
        self.last_error = f"{error.type_name} in {command.source[:60]!r}"
        command.finish(error, duration)

    def _take_note(self, number: int, note: Any) -> None:
        mesh = self.data.mesh
        warning = self._notes.take(number, note, mesh.sink, trusts_displays=mesh.trusts_displays)
        if warning is not None and number in self.running:
            self._warnings.setdefault(number, warning)
        elif warning is not None:
            self._notes.show_error(warning)

"""The client's view of a server: the connections to one node, and the handling of its messages.

Commands and their ends travel on the data connection; the command channel leads to the supervisor, which interrupts
commands and forwards their output.

The client's knowledge of a node has four parts: its state (`pconnect.session.node_state`), the commands sent to it
(`pconnect.session.running_commands`), the errors of failed commands (`pconnect.session.failure_log`), and the output of
its engine (`pconnect.commands.engine_output`). `Server` keeps the two connections and routes their messages.
"""

import contextlib
import time
import warnings
from typing import Any

from pconnect.commands.captured_output import with_last_words
from pconnect.commands.command import Command
from pconnect.commands.engine_output import End, EngineOutput, number_of_output, read_end
from pconnect.commands.front_end_messages import describe_warning
from pconnect.commands.remote_errors import remote_error
from pconnect.errors import (
    ConnectionLostError,
    DeadlockError,
    EngineDiedError,
    ParallelError,
    ProtocolError,
    shown_source,
)
from pconnect.link.connection import LIBRARY_TAGS, Connection
from pconnect.link.peer import Peer
from pconnect.protocol.answer_forms import check_answer
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from pconnect.routes.location import Location
from pconnect.session.deadlock_detector import Rounds
from pconnect.session.failure_log import FailureLog
from pconnect.session.grace import GRACE_SECONDS, Grace
from pconnect.session.node_state import EVENTS, NodeEvent, NodeLife
from pconnect.session.running_commands import RunningCommands
from srp_tools.steps import deadline_after

_LEAVE_STATE = {"workspace.update", "files.put", "code.apply"}  # services whose effects jobs can see
_ADVICE = "; to continue: "  # introduces the remedy in a message about a death


class Server(Peer):
    """A node of the network other than the client, as seen by the client."""

    def __init__(self, command: Connection, location: Location) -> None:
        self.node = command.node
        self.host = command.host  #: as given to `pconnect`
        self.location = location  #: the addresses of its server
        self.life = NodeLife(f"node {self.node} ({self.host})")
        self.commands = RunningCommands()
        self.failures = FailureLog()
        self.output = EngineOutput(self.node, self.host)
        self.facts: dict[str, Any] = {}  #: what its engine reported when it joined the network
        self.live: dict[str, Any] = {}  #: the last answer of its supervisor to a QUERY
        self.last_reply_at: float | None = None  #: when its supervisor last answered for the statistics
        #: Unread answers of its supervisor, by their kind and the number of the question.
        self.answers: dict[tuple[Kind, int], Any] = {}
        self.rounds = Rounds()  #: collects its answers in the search for deadlocks
        self._grace = Grace()
        self.attach(Connection(self.node, self.host, None, role=Role.CLIENT_DATA))
        self.listen(command)

    def listen(self, command: Connection) -> None:
        """Start to use a command channel."""
        self.command = command  #: the command channel, to its supervisor
        command.on_message, command.on_lost = self._take, lambda _: self._lose_channel()
        command.peer = self

    def attach(self, data: Connection) -> None:
        """Start to use a data connection."""
        self.data = data  #: the data connection, to its engine
        data.peer = self
        data.on_library_value = self._take_value
        data.on_message = lambda message: self._take_ends(read_end(message.tag, message.value))
        data.on_lost = lambda _: self._lose_values()

    # --- queries from other modules ---

    @property
    def state(self) -> str:
        """``open``, ``died`` (its engine), ``lost`` (its server or machine) or ``closed``."""
        return self.life.public_state

    @property
    def running(self) -> dict[int, Command]:
        """The commands that have not ended, by number."""
        return self.commands.running

    @property
    def busy(self) -> bool:
        """Whether values may still arrive: commands run, or ended a moment ago. Also true for a node that is gone."""
        gone = self.life.death or self.command.error
        return bool(self.running or gone) or time.monotonic() - self.commands.ended_at < GRACE_SECONDS

    @property
    def trouble(self) -> str:
        """The problem of the node in one line without its name; empty if no problem is known."""
        line = str(self._account() or "").partition("\n")[0].partition(_ADVICE)[0]
        name = f"node {self.node} ({self.host})"
        return line.replace(f" of {name}", "").replace(f"{name} is ", "")

    @property
    def calls_back(self) -> bool:
        """Whether the end of a command will call functions of the user."""
        return any(command.calls_back for command in self.commands.known)

    def remedy(self, connection: object) -> str:
        """Return a remedy for the loss of a connection, to append to the error message."""
        lives = connection is self.data and self.command.error is None
        anew = f"net.reconnect({self.node}), or connect again"
        return _ADVICE + (f"net[{self.node}].restart()" if lives else anew)

    def sources(self) -> list[Connection]:
        """Return the connections that values arrive on."""
        return [self.data]

    def check(self) -> None:
        """Raise if waiting for a value is pointless; see `pconnect.session.failure_log`."""
        error = self.failures.take_unseen(self.data.values_received)
        if error is not None:
            raise error
        self._check_alive()

    def check_epoch(self, epoch: int) -> None:
        """Raise if this node no longer takes part in the collective calls of an epoch."""
        error = self.failures.take_since(epoch, self.data.values_received)
        if error is not None:
            raise error
        self._check_alive()

    def _check_alive(self) -> None:
        if self.life.death and time.monotonic() - self.life.died_at > GRACE_SECONDS:
            raise self.life.death
        if self.command.error:
            raise self.command.loss()

    def explain(self, epoch: int | None = None) -> ParallelError | None:
        """Return the supervisor's report about the end of the engine, after waiting a moment for it.

        With an epoch, the failure of a command since then also counts.
        """
        event_loop = self.data.mesh.event_loop
        with contextlib.suppress(TimeoutError):
            event_loop.run_until(
                lambda: self._account(epoch) is not None, deadline_after(GRACE_SECONDS), "the server's report"
            )
        return self._account(epoch)

    def _account(self, epoch: int | None = None) -> ParallelError | None:
        if epoch is not None and (error := self.failures.take_since(epoch)) is not None:
            return error
        return self.life.death or (self.command.loss() if self.command.error else None)

    # --- commands ---

    def begin(self, command: Command, kind: Kind, contents: list[Any]) -> None:
        """Send a command as a message of this kind; fail the command if that is impossible."""
        error = self._account()
        if error is None and self.data.error is not None and not self._grace.has_begun:
            error = self.data.loss()
        if error is not None:
            command.finish(error)
            return
        self.commands.add(command)
        self.commands.leave_state |= kind is Kind.COMMAND or contents[0] in _LEAVE_STATE
        if not self.commands.are_killed:
            self.data.post(kind, command.number, contents)
            command.begun = True

    def interrupt(self, up_to: int | None = None) -> None:
        """Interrupt the commands up to a number, or all; kill the engine if one of them was interrupted before."""
        if not self.running or self.command.error:
            return
        number = self.commands.interrupt(up_to)
        self._stop(Kind.INTERRUPT, number)

    def cancel(self, number: int) -> None:
        """Interrupt one command, or remove it from the queue; the second time, kill the engine."""
        if number not in self.running or self.command.error:
            return
        self._stop(Kind.CANCEL, number if self.commands.cancel(number) else None)

    def kill(self, up_to: int | None = None) -> None:
        """Kill the engine if it runs a command up to a number; without a number, in any case."""
        if self.life.death is None and not self.command.error and self.commands.runs(up_to):
            self._stop(Kind.KILL, None)

    def _stop(self, kind: Kind, number: int | None) -> None:
        """Ask the supervisor to stop commands; without a number, to kill the engine."""
        if number is None:
            self.commands.are_killed = True
            kind = Kind.KILL
        self.command.post(kind, number or 0)
        self.command.flush()

    def settle(self, deadline: float) -> str:
        """Wait for the end of interrupted commands; return the name of the node if they do not end, otherwise empty."""
        commands = self.commands
        with contextlib.suppress(TimeoutError):
            self.data.mesh.event_loop.run_until(
                lambda: not commands.interrupted_run(), deadline, "interrupted commands"
            )
            return ""
        return f"node {self.node} ({self.host})"

    # --- the end of an engine, and the next one ---

    def begin_restart(self, number: int) -> None:
        """Give up the engine, which is about to be replaced. Its commands end."""
        error = EngineDiedError(f"the engine of node {self.node} ({self.host}) was restarted")
        self.life.die(NodeEvent.RESTART_ASKED, error, time.monotonic())
        self._lose_commands(error)
        for command in self.commands.known:
            command.lose_value(error)
        self.failures.lose([number], error)  # the next command begins a new epoch

    def renew(self, event: NodeEvent = NodeEvent.ENGINE_REPLACED) -> None:
        """Reset the state of the old engine, after a restart or in a new session: its values and its failures."""
        name = f"node {self.node} ({self.host})"
        self.life.die(event, EngineDiedError(f"the new engine of {name} is not there yet"))
        self.data.mesh.event_loop.discard(self.data)
        self.data.reset()
        self.rounds.forget(self.node)  # it will not answer earlier questions, see `Rounds`
        self.failures.forget()
        self.commands.forget()
        self.output.forget()
        self.facts = {}

    def end_restart(self, error: Exception | None) -> None:
        """End a restart: the new engine has joined, or `error` is the reason of the failure."""
        if error is None:
            self.life.happen(NodeEvent.RESTART_DONE)
            if self.data.error is not None:  # the new engine's connection broke before it was a member
                self.life.happen(NodeEvent.DATA_LOST)
            self.output.end_lines()
            return
        text = f"the restart of node {self.node} ({self.host}) failed: {error}"
        death = EngineDiedError(text)
        self.life.die(NodeEvent.RESTART_FAILED, death, time.monotonic())
        self.failures.last_error = text
        if self.data.is_awaited:
            self.data.lose(death)

    def ask_to_close(self, grace: float) -> None:
        """Ask to end the session; the engine has `grace` seconds to end by itself."""
        self.life.happen(NodeEvent.CLOSE_ASKED)
        self.command.post(Kind.CLOSE, round(grace * 1000))

    def end(self, error: ParallelError) -> None:
        """End all commands with `error`: the client has closed the connections."""
        self.life.happen(NodeEvent.NETWORK_CLOSED)
        self._lose_commands(error)

    def report_unseen(self) -> None:
        """Warn about errors that were never retrieved; called at the end of the network."""
        for error in self.failures.unseen():
            warnings.warn(f"this error was never retrieved: {error}", RuntimeWarning, stacklevel=5)

    def _lose_channel(self, why: str = "") -> None:
        if why:  # the server has announced it
            self.command.error = ConnectionLostError(why)
        self.life.happen(NodeEvent.CHANNEL_LOST)
        self._take_ends(is_complete=True)
        self._lose_commands(self.command.loss())

    def _lose_commands(self, error: ParallelError) -> None:
        self._grace.cancel()
        self.output.end(None)
        lost = self.commands.drop()
        self.failures.lose([command.number for command in lost], error)
        for command in lost:
            command.finish(error)

    def _lose_running(self) -> None:
        self._lose_commands(self._account() or self.data.loss())

    def _lose_values(self) -> None:
        self.life.happen(NodeEvent.DATA_LOST)
        for command in self.commands.known:
            command.lose_value(self.data.loss())
        if self.life.death is not None:
            self._lose_commands(self.life.death)
        elif self.running:
            self._grace.begin(self.data.mesh.event_loop, self._lose_running)

    # --- messages from the node ---

    def _take_value(self, tag: int, value: object) -> None:
        command = self.commands.get(tag - LIBRARY_TAGS)
        if command is not None:
            command.arrive(value)

    def has_answered(self, kind: Kind, number: int) -> bool:
        """Whether its supervisor has answered a question, or can no longer answer."""
        return (kind, number) in self.answers or self.command.error is not None

    def _take(self, message: Message) -> None:
        check_answer(message.kind, message.value)
        match message.kind:
            case Kind.DONE:
                self._take_ends(read_end(message.tag, message.value))
            case Kind.OUTPUT:
                if self.output.take(message, self.commands.get(number_of_output(message.value))):
                    self.command.post(Kind.TAKEN)
                self._take_ends()
            case Kind.FRONT_END:
                self._take_front_end(message)
                self._take_ends()
            case Kind.FACTS | Kind.RESTART | Kind.RENEW | Kind.MEMBERS | Kind.NEIGHBOURS | Kind.STATISTICS:
                self.answers[message.kind, message.tag] = message.value
            case Kind.BACK:
                raise ProtocolError("BACK sent to a client that has not resumed its sessions")
            case Kind.STATE:
                self.rounds.take(self.node, message.tag, message.value, time.monotonic())
            case _:
                self._take_event(message)

    def _take_event(self, message: Message) -> None:
        """Handle a message that changes the state of the node."""
        event = EVENTS[message.kind]
        if not self.life.allows(event):
            raise ProtocolError(f"{message.kind.name} from a node that is {self.life.state.name}")
        match event:
            case NodeEvent.MESHED:
                self.life.happen(event)
                self.facts, self.live = message.value, {}
            case NodeEvent.CLOSE_ANSWERED:
                self.life.happen(event)
                self.life.was_killed = message.value
            case NodeEvent.ENGINE_DIED:
                self._take_death(**message.value)
            case NodeEvent.SESSION_ENDED:
                self.life.refusal = message.value if message.tag else ""
                self.command.on_lost = lambda _: self._lose_channel(message.value)
                words = f"the session of node {self.node} ({self.host}) was ended: {message.value}"
                self._end(event, words + self.remedy(self.command))

    def _take_death(self, how: str, last_output: str, command: int | None = None) -> None:
        if self.data.mesh is not None:  # otherwise the network is still being set up
            self.data.mesh.event_loop.drain(self.data)  # it may contain ends of commands
        self._take_ends(is_complete=True)
        words = f"the engine of node {self.node} ({self.host}) died: {how}"
        # Commands that were sent but had not begun are not affected.
        running = self.commands.oldest if command is None else self.running.get(command)
        self.output.end(running)
        if running is not None:
            words += f" in command {shown_source(running.source)!r}"
        words += f"{_ADVICE}net[{self.node}].restart()"
        self._end(NodeEvent.ENGINE_DIED, with_last_words(words, last_output))

    def _end(self, event: NodeEvent, text: str) -> None:
        death = EngineDiedError(text)
        self.life.die(event, death, time.monotonic())
        self.rounds.forget(self.node)
        if self.data.error is None and self.running and not self.data.is_awaited:
            self._grace.begin(self.data.mesh.event_loop, self._lose_running)
        else:
            self._lose_commands(death)

    def _take_ends(self, end: End | None = None, *, is_complete: bool = False) -> None:
        """End the commands whose output has been shown, or will never arrive."""
        for ended in self.output.take_ends(end, is_complete=is_complete):
            self._finish(ended)

    def _finish(self, end: End) -> None:
        number, outcome, _ = end
        command = self.commands.finish(number, time.monotonic())
        self.output.end(command)
        if command is None:
            return
        warning = self.failures.take_warning(number)
        if isinstance(outcome, dict):
            error = remote_error(self.node, self.host, command.source, outcome)
            if isinstance(error, DeadlockError):
                error.waits = self.rounds.found
            self.failures.add(command, error, outcome["values_sent"], is_closing=self.life.is_closing)
            command.finish(error, outcome["seconds"])
        elif warning is not None:
            failure = describe_warning(warning, command.source)
            error = remote_error(self.node, self.host, command.source, failure)
            self.failures.add_warned(command, error)
            command.finish(error, outcome)
        else:
            command.finish(None, outcome)
            if self.data.error is not None:
                command.lose_value(self.data.loss())

    def _take_front_end(self, message: Message) -> None:
        mesh = self.data.mesh
        warning = self.output.take_front_end(message, mesh.sink, trusts_displays=mesh.trusts_displays)
        if warning is None:
            return
        if message.tag in self.running:
            self.failures.add_warning(message.tag, warning)
        else:
            self.output.show_error(warning)

"""The client's view of its servers: the connections to one node, and what is done with each message from there.

Commands and their ends pass on the data connection; the command channel leads to the supervisor, which interrupts them
and passes on what they print.

What the client knows of a node is in four parts: its state (`pconnect.session.node_state`), the commands that were sent
there (`pconnect.session.running_commands`), the errors of those that failed (`pconnect.session.failure_log`), and the
output of its engine (`pconnect.commands.engine_output`). `Server` keeps the two connections and routes their messages.
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

_LEAVE_STATE = {"workspace.update", "files.put", "code.apply"}  # services whose effect jobs see
_ADVICE = "; to go on: "  # begins what a user can do about a death


class Server(Peer):
    """One node of the network other than the client, as the client knows it."""

    def __init__(self, command: Connection, location: Location) -> None:
        self.node = command.node
        self.host = command.host  #: as given to `pconnect`
        self.location = location  #: where its server is
        self.life = NodeLife(f"node {self.node} ({self.host})")
        self.commands = RunningCommands()
        self.failures = FailureLog()
        self.output = EngineOutput(self.node, self.host)
        self.facts: dict[str, Any] = {}  #: what its engine reported when it joined the network
        self.live: dict[str, Any] = {}  #: the last answer of its supervisor to a QUERY
        self.last_reply_at: float | None = None  #: when its supervisor last answered for the statistics
        #: Answers of its supervisor that have not been taken yet, by their kind and the number of the question.
        self.answers: dict[tuple[Kind, int], Any] = {}
        self.rounds = Rounds()  #: takes its answers in the search for deadlocks
        self._grace = Grace()
        self.attach(Connection(self.node, self.host, None, role=Role.CLIENT_DATA))
        self.listen(command)

    def listen(self, command: Connection) -> None:
        """Take over the command channel."""
        self.command = command  #: the command channel, to its supervisor
        command.on_message, command.on_lost = self._take, lambda _: self._lose_channel()
        command.peer = self

    def attach(self, data: Connection) -> None:
        """Take over the data connection."""
        self.data = data  #: the data connection, to its engine
        data.peer = self
        data.on_library_value = self._take_value
        data.on_message = lambda message: self._take_ends(read_end(message.tag, message.value))
        data.on_lost = lambda _: self._lose_values()

    # --- what others ask ---

    @property
    def state(self) -> str:
        """``open``, ``died`` (its engine), ``lost`` (its server or machine) or ``closed``."""
        return self.life.told_as

    @property
    def running(self) -> dict[int, Command]:
        """The commands that have not ended, by number."""
        return self.commands.running

    @property
    def busy(self) -> bool:
        """Whether values may still arrive: commands run, or ended a moment ago. True of a node that is gone, too."""
        gone = self.life.death or self.command.error
        return bool(self.running or gone) or time.monotonic() - self.commands.ended_at < GRACE_SECONDS

    @property
    def trouble(self) -> str:
        """What has become of the node, in one line without its name; empty if nothing is known to be wrong."""
        line = str(self._account() or "").partition("\n")[0].partition(_ADVICE)[0]
        name = f"node {self.node} ({self.host})"
        return line.replace(f" of {name}", "").replace(f"{name} is ", "")

    @property
    def calls_back(self) -> bool:
        """Whether the end of a command will call functions of the user."""
        return any(command.calls_back for command in self.commands.known)

    def remedy(self, connection: object) -> str:
        """Return what a user can do about the loss of a connection, for the end of its text."""
        lives = connection is self.data and self.command.error is None
        anew = f"net.reconnect({self.node}), or connect again"
        return _ADVICE + (f"net[{self.node}].restart()" if lives else anew)

    def sources(self) -> list[Connection]:
        """Return the connection on which values come."""
        return [self.data]

    def check(self) -> None:
        """Raise if no value may be waited for; see `pconnect.session.failure_log`."""
        error = self.failures.take_unseen(self.data.values_received)
        if error is not None:
            raise error
        self._check_alive()

    def check_epoch(self, epoch: int) -> None:
        """Raise if this node takes part in no more collective calls of an epoch."""
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
        """Return the supervisor's account of what happened to the engine, after waiting a moment for it.

        With an epoch, the failure of a command since then is such an account.
        """
        event_loop = self.data.mesh.event_loop
        with contextlib.suppress(TimeoutError):
            event_loop.run_until(
                lambda: self._account(epoch) is not None, deadline_after(GRACE_SECONDS), "an account"
            )
        return self._account(epoch)

    def _account(self, epoch: int | None = None) -> ParallelError | None:
        if epoch is not None and (error := self.failures.take_since(epoch)) is not None:
            return error
        return self.life.death or (self.command.loss() if self.command.error else None)

    # --- commands ---

    def begin(self, command: Command, kind: Kind, contents: list[Any]) -> None:
        """Send a command, as a message of this kind; if that is impossible, it has failed."""
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
        """Interrupt the commands up to a number, or all; if one of them was interrupted before, kill the engine."""
        if not self.running or self.command.error:
            return
        number = self.commands.interrupt(up_to)
        self._stop(Kind.INTERRUPT, number)

    def cancel(self, number: int) -> None:
        """Interrupt one command, or take it from those that wait; the second time, kill the engine."""
        if number not in self.running or self.command.error:
            return
        self._stop(Kind.CANCEL, number if self.commands.cancel(number) else None)

    def kill(self, up_to: int | None = None) -> None:
        """Kill the engine, if it runs a command up to a number, or at all."""
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
        """Wait for the end of the commands that were interrupted; return the words for the node if they do not end."""
        commands = self.commands
        with contextlib.suppress(TimeoutError):
            self.data.mesh.event_loop.run_until(
                lambda: not commands.interrupted_run(), deadline, "interrupted commands"
            )
            return ""
        return f"node {self.node} ({self.host})"

    # --- the end of an engine, and the next one ---

    def begin_restart(self, number: int) -> None:
        """Give up the engine: it is about to be replaced. Its commands end."""
        error = EngineDiedError(f"the engine of node {self.node} ({self.host}) was restarted")
        self.life.die(NodeEvent.RESTART_ASKED, error, time.monotonic())
        self._lose_commands(error)
        for command in self.commands.known:
            command.lose_value(error)
        self.failures.lose([number], error)  # the next command begins a new epoch

    def renew(self, event: NodeEvent = NodeEvent.ENGINE_REPLACED) -> None:
        """Forget the old engine, after its server has, or in a new session: its values and its failures."""
        name = f"node {self.node} ({self.host})"
        self.life.die(event, EngineDiedError(f"the new engine of {name} is not there yet"))
        self.data.mesh.event_loop.discard(self.data)
        self.data.reset()
        self.rounds.forget(self.node)  # what it was asked it will not answer, see `Rounds`
        self.failures.forget()
        self.commands.forget()
        self.output.forget()
        self.facts = {}

    def end_restart(self, error: Exception | None) -> None:
        """End a restart: the new engine is there, or `error` says why not."""
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
        """Ask for the end of the session; the engine has `grace` seconds to end by itself."""
        self.life.happen(NodeEvent.CLOSE_ASKED)
        self.command.post(Kind.CLOSE, round(grace * 1000))

    def end(self, error: ParallelError) -> None:
        """End all commands because of `error`: the client has closed the connections."""
        self.life.happen(NodeEvent.NETWORK_CLOSED)
        self._lose_commands(error)

    def report_unseen(self) -> None:
        """Warn of errors that were never retrieved; for the end of the network."""
        for error in self.failures.unseen():
            warnings.warn(f"this error was never retrieved: {error}", RuntimeWarning, stacklevel=5)

    def _lose_channel(self, why: str = "") -> None:
        if why:  # the server has said it before
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

    # --- what the node says ---

    def _take_value(self, tag: int, value: object) -> None:
        command = self.commands.get(tag - LIBRARY_TAGS)
        if command is not None:
            command.arrive(value)

    def has_answered(self, kind: Kind, number: int) -> bool:
        """Whether its supervisor has answered a question, or never will."""
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
                raise ProtocolError("BACK to a client that has not come back")
            case Kind.STATE:
                self.rounds.take(self.node, message.tag, message.value, time.monotonic())
            case _:
                self._take_event(message)

    def _take_event(self, message: Message) -> None:
        """Pass on a message that changes the state of the node."""
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
        if self.data.mesh is not None:  # else the network is just being made
            self.data.mesh.event_loop.drain(self.data)  # the ends of commands may be there
        self._take_ends(is_complete=True)
        words = f"the engine of node {self.node} ({self.host}) died: {how}"
        # Those that the client had sent and that wait there have nothing to do with it.
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
        """End the commands whose output has been shown, or will never be."""
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

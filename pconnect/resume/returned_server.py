"""A server whose session the client resumes: its first messages, and the commands of the previous client."""

import time
from collections.abc import Mapping

from pconnect.commands.command import Command
from pconnect.commands.engine_output import End, number_of_output, read_end
from pconnect.commands.function_pickling import unpack_value
from pconnect.commands.remote_errors import remote_error
from pconnect.errors import ConnectionLostError, ParallelError
from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.answer_forms import check_answer
from pconnect.protocol.frames import Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from pconnect.routes.location import Location
from pconnect.session.node_state import NodeState
from pconnect.session.remote_calls import kept_value_of
from pconnect.session.server import Server
from pconnect.views.network_views import ResumableConnection

_UNKNOWN = "(unknown while its engine computes)"
_FORGOTTEN = "the engine does not remember this command of the previous client: it keeps only the latest ones"


class ReturnedServer(Server):
    """A node whose session the client resumes."""

    def __init__(
        self, event_loop: EventLoop, limits: Limits, command: Connection, location: Location
    ) -> None:
        self._event_loop = event_loop
        self._known: set[int] = set()
        self.refusal: str | None = (
            None  #: why the client cannot resume the session; empty if no session was found
        )
        #: Commands up to this number belong to the previous client.
        self.last_before = 2**31
        self.has_told = False  #: whether the engine has reported all that it remembers
        super().__init__(command, location)
        self.attach(
            ResumableConnection(
                self.node, self.host, None, role=Role.CLIENT_DATA, limits=limits, awaited=True
            )
        )

    @property
    def is_settled(self) -> bool:
        """Whether it is known if the client can resume the session."""
        return (
            self.refusal is not None
            or self.command.error is not None
            or self.life.state is not NodeState.JOINING
        )

    @property
    def found(self) -> Mapping[int, Command]:
        """The commands of the previous client, by number."""
        return self.commands.found

    def attach(self, data: Connection) -> None:
        """Attach the data connection; see `pconnect.session.server.Server.attach`."""
        super().attach(data)
        data.on_message = self._take_from_engine

    def _take(self, message: Message) -> None:
        if message.kind is Kind.BACK:
            check_answer(message.kind, message.value)
            if isinstance(message.value, str):
                self.refusal = message.value
            else:
                self.output.go_on_from(message.value)
            return
        if message.kind is Kind.OUTPUT and 0 < number_of_output(message.value) <= self.last_before:
            self._find(number_of_output(message.value))
        super()._take(message)
        if message.kind is Kind.MESHED and self.facts.get("running"):
            self._find(self.facts["running"])

    def _take_from_engine(self, message: Message) -> None:
        if message.kind is not Kind.KNOWN:
            self._take_ends(read_end(message.tag, message.value))
            return
        check_answer(message.kind, message.value)
        if message.tag:
            source, has_value = message.value
            command = self._find(message.tag)
            command.source = source
            self._known.add(message.tag)
            if has_value:
                command.expect_value(lambda value: unpack_value(value, allow_pickle=False), kept_value_of)
            return
        self.commands.values_lost, self.has_told = message.value, True
        for number, command in self.found.items():
            if number not in self._known and number in self.running:
                self._end_found(number, command, ConnectionLostError(_FORGOTTEN), None)

    def _find(self, number: int) -> Command:
        """Return a command of the previous client; create it if it is new."""
        command = self.commands.found.get(number)
        if command is None:
            where = self.node, self.host
            command = self.commands.found[number] = Command(_UNKNOWN, self, where, number, self._event_loop)
            command.begun = True
            self.commands.add(command)
        return command

    def _finish(self, end: End) -> None:
        command = self.commands.found.get(end.number)
        if command is None:
            super()._finish(end)
            return
        # The error does not disturb other calls: the user may have seen it before. It is available from the command.
        error = None
        if isinstance(end.outcome, dict):
            error = remote_error(self.node, self.host, command.source, end.outcome)
        seconds = end.outcome["seconds"] if isinstance(end.outcome, dict) else end.outcome
        self._end_found(end.number, command, error, seconds)

    def _end_found(
        self, number: int, command: Command, error: ParallelError | None, seconds: float | None
    ) -> None:
        self.commands.finish(number, time.monotonic())
        self.output.end(command)
        command.seen.error = True
        command.finish(error, seconds)

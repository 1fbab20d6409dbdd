"""Run commands and services in the workspace of an engine, one at a time, and interrupt them.

SIGINT ends only the command that the supervisor means, as recorded in the page of `pserver.engine.command_page`, which
documents the order of the steps. A signal that the supervisor did not send comes from the user's code, for example from
`signal.raise_signal`. It ends whatever command is running.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from pconnect.commands.function_pickling import pickle_value, unpack_service_arguments
from pconnect.commands.remote_errors import blame_limit
from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.link.connection import LIBRARY_TAGS
from pconnect.loop.network import Mesh
from pconnect.messaging.collective_call import leave
from pconnect.messaging.send_receive import precv, send_encoded
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message, encode_message
from pserver.config.limit_options import SessionLimits
from pserver.display.mime_bundle import make_bundle
from pserver.display.outbox import Outbox
from pserver.engine.command_page import CommandPage, GivenOutput
from pserver.engine.failure import describe, not_begun
from pserver.engine.unsent_value import keep_unsent
from pserver.engine.workspace import Workspace
from pserver.limits.limit_words import add_hint
from pserver.orphans.client_link import ClientLink
from pserver.orphans.command_history import CommandHistory
from pserver.services import registry
from pserver.services.kept_results import MAX_HEAD_BYTES, KeptResults
from pserver.services.registry import EngineState
from pserver.system.flush import flush_output


class Interrupts:
    """The SIGINT handler of an engine; creating it installs it for the process.

    `page`: shared with the supervisor. `await_cancels`: receives messages from the supervisor until the total number of
    CANCEL messages has reached the given count.
    """

    def __init__(self, page: CommandPage, await_cancels: Callable[[int], object]) -> None:
        #: Whether a signal may be raised as `KeyboardInterrupt`. Set the attribute itself, not by a method: a
        #: signal that arrives during a call could be raised inside it.
        self.in_command = False
        self.cancelled: set[int] = set()  #: the commands that must not begin
        self.received = 0  #: number of CANCEL messages received
        self._page = page
        self._await_cancels = await_cancels
        self.number = 0  #: the command that runs or is about to run; set it before `in_command`
        self._signals = 0  # number of the supervisor's signals handled
        self._cancels = 0
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        signals = self._page.signals
        is_ours, self._signals = signals != self._signals, signals
        if self.in_command and (not is_ours or self._page.stops(self.number)):
            raise KeyboardInterrupt

    def cancel(self, number: int) -> None:
        """Handle a CANCEL message."""
        self.received += 1
        self.cancelled.add(number)

    def may_begin(self) -> bool:
        """Return whether the command that the page records as begun may run."""
        cancels = self._page.cancels
        if cancels != self._cancels:
            self._await_cancels(cancels)
            self._cancels = cancels
        is_cancelled = self.number in self.cancelled
        if self.cancelled:
            self.cancelled = {other for other in self.cancelled if other > self.number}
        return not (is_cancelled or self._page.stops(self.number))


# A value of up to this size is sent together with the end of its command.
_SMALL_BYTES = 2**14
_COUNT_SECONDS = 0.1  # between two counts of bytes: each takes longer than a small command


class CommandRunner:
    """Runs commands, once the engine has joined its network.

    `services`: the state that services work on. `outbox`: messages to the front end, attributed to the running command.
    `interrupts`: may end the running command. `page`: shows the supervisor the running command. `given`: counts the
    bytes written to the engine's output streams. `mesh`, `workspace`, `services`: the engine's. `number`: the running
    command, or the last one; 0 before the first. `has_limit`: whether it has a time limit. `server_limits`: limits that
    an error may be due to.
    """

    def __init__(  # noqa: PLR0917 - everything that a command uses
        self,
        mesh: Mesh,
        workspace: Workspace,
        services: EngineState,
        outbox: Outbox,
        interrupts: Interrupts,
        page: CommandPage,
        given: GivenOutput,
        limits: SessionLimits | None = None,
    ) -> None:
        self.mesh = mesh
        self.workspace = workspace
        self.services = services
        self._outbox = outbox
        self._interrupts = interrupts
        self._page = page
        self._given = given
        self.server_limits = limits or SessionLimits()
        self._client = mesh.connections[0]
        self._process = os.getpid()
        self.number = 0
        self.has_limit = False
        #: The outcomes of commands for a client that reconnects; ``None`` if clients cannot reconnect.
        self.history: CommandHistory | None = None
        self._count_at = 0.0

    def run(self, message: Message) -> None:
        """Run a command or a service, and send the client its value and its end.

        The end is a list: the duration in seconds, or the error; then the number of bytes written to each of the two
        output streams, and the number of messages sent to the front end.
        """
        number, (_, epoch, options) = message.tag, message.value
        if epoch > self.mesh.epoch:
            self.mesh.begin_epoch(epoch)
        limit = options.get("seconds")
        self.number, self.has_limit = number, limit is not None
        self._outbox.number = self._interrupts.number = number
        self._page.begin(number, limit)
        self._page.mark(number, self._given.count())
        if self.history is not None:
            self.history.begin(number, message.value[0], has_value=keeps_value(message))
        outcome = self._run(message)
        flush_output()
        self._outbox.release()
        self._outbox.number = 0
        self._page.end()
        given = self._given.count()
        self._page.mark(0, given)
        self._send_end(number, outcome, given)
        if self.history is not None and message.kind is Kind.CALL:
            self.history.forget(number)
        now = time.perf_counter()
        if now >= self._count_at:
            self._count_at = now + _COUNT_SECONDS
            self.count_bytes()

    def refuse(self, number: int, error: ProtocolError) -> None:
        """Fail a malformed command."""
        outcome = describe(error) | {"values_sent": self._client.values_sent, "seconds": 0.0}
        self._send_end(number, outcome, self._given.count())

    def _send_end(self, number: int, outcome: float | dict[str, Any], given: Sequence[int]) -> None:
        with self.mesh.event_loop.sigint_deferred:
            if self.history is not None:
                outcome = self.history.end(number, outcome, self._link)
            if not self._is_orphaned:
                self._client.post(Kind.DONE, number, [outcome, *given, self._outbox.sent])
                self.mesh.event_loop.flush(self._client)

    @property
    def _is_orphaned(self) -> bool:
        """Whether the client is gone, and a client that reconnects will get outcomes from the history."""
        return isinstance(self._client, ClientLink) and self._client.is_orphaned

    @property
    def _link(self) -> int:
        if not isinstance(self._client, ClientLink):
            return 0
        return -1 if self._client.is_orphaned else self._client.vanished

    def count_bytes(self) -> None:
        """Record for the audit the number of bytes that have passed over all links."""
        links = self.mesh.connections
        self._page.count_bytes(
            sum(link.received_bytes for link in links), sum(link.sent_bytes for link in links)
        )

    def _run(self, message: Message) -> float | dict[str, Any]:
        """Return the duration in seconds, or the error."""
        begin = time.perf_counter()
        try:
            self._interrupts.in_command = True
            if not self._interrupts.may_begin():
                raise not_begun()
            self._execute(message)
            _show_figures()
            self._interrupts.in_command = False
            return time.perf_counter() - begin
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt too are the command's failure
            self._interrupts.in_command = False
            self._end_copy()
            if isinstance(error, Exception):  # after an interrupt, the figures stay open
                _show_figures()
            leave(self.mesh, error)  # other nodes may wait in vain for this one in a collective call
            add_hint(error, self.server_limits)
            outcome = describe(error) | {"values_sent": self._client.values_sent}
            limit = message.value[2].get("seconds")  # may be missing if a client has used a number twice
            if (
                limit is not None
                and self._page.has_expired(message.tag)
                and isinstance(error, KeyboardInterrupt)
            ):
                blame_limit(outcome, limit)
            outcome["seconds"] = time.perf_counter() - begin
            return outcome

    def _execute(self, message: Message) -> None:
        source, _, options = message.value
        tag = LIBRARY_TAGS + message.tag
        if message.kind is Kind.CALL:
            value = registry.call(self.services, source, unpack_service_arguments(self._receive(tag)))
        elif options.get("call"):
            value = self.workspace.call(self._receive(tag))
        else:
            value = self.workspace.run(source, message.tag, wants_value=bool(options))
        self._end_copy()
        if options.get("value"):
            self._send_value(value, tag, options, keeps=message.kind is Kind.COMMAND)

    def _end_copy(self) -> None:
        """End this process if the user's code forked it from the engine: the connections are not its own."""
        if os.getpid() != self._process:
            flush_output()
            os._exit(0)

    def _receive(self, tag: int) -> list[Any]:
        """Wait for the arguments of a command."""
        with self.mesh.event_loop.sigint_deferred:
            for old in [old for old in self._client.inbox if LIBRARY_TAGS <= old < tag]:
                self._client.take_unfinished(old)  # belongs to a command cancelled before it began
        if not isinstance(self._client, ClientLink):
            arguments: list[Any] = precv(self._client, tag=tag)
            return arguments
        self._client.await_arguments(self.number)
        try:
            arguments = precv(self._client, tag=tag)
        finally:
            self._client.await_arguments(0)
        return arguments

    def _send_value(self, value: object, tag: int, options: dict[str, Any], *, keeps: bool) -> None:
        if options.get("display") and value is not None:
            value = list(make_bundle(value))
        try:
            self._send([False, value], tag, by_name=not options.get("pickle"))
        except UnsupportedValueError as error:
            if not options.get("pickle"):
                if not keeps:
                    raise UnsupportedValueError(str(error).replace("value[1]", "value", 1)) from None
                raise keep_unsent(error, value, "command", self._keep) from None
            self._send([True, pickle_value(value)], tag)

    def _keep(self, data: bytes) -> str:
        most = self.mesh.limits.max_message_bytes - MAX_HEAD_BYTES
        return KeptResults(self.services.files).keep("command", self.number, data, most)

    def _send(self, value: object, tag: int, *, by_name: bool = True) -> None:
        """Send a value; a small one is held back and sent with the next message."""
        limit = self.mesh.limits.max_message_bytes
        buffers = encode_message(Kind.VALUE, tag, value, limit, by_name=by_name)
        if self.history is not None:
            self.history.keep_value(self.number, buffers, self._link)
        if self._is_orphaned:
            return
        if len(buffers) == 1 and len(buffers[0]) <= _SMALL_BYTES:
            with self.mesh.event_loop.sigint_deferred:
                self._client.post_encoded(buffers)
        else:
            send_encoded(buffers, self.mesh, [self._client])


def keeps_value(message: Message) -> bool:
    """Return whether a client that reconnects may fetch the value of a command; the values of services are not kept."""
    options = message.value[2]
    return message.kind is Kind.COMMAND and bool(options.get("value")) and not options.get("display")


def _show_figures() -> None:
    """Show open pyplot figures if the user's code uses our backend. An error in this is only printed."""
    backend = sys.modules.get("pserver.display.matplotlib_backend")
    if backend is not None:
        try:
            backend.show_open_figures()
        except Exception:  # noqa: BLE001 - drawing runs user code, but the command itself has succeeded
            traceback.print_exc()

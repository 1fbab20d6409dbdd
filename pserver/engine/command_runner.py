"""Running commands and services in the workspace of an engine, one after the other."""

import sys
import time
import traceback
from typing import Any

from pconnect.commands.function_pickling import pickle_value, unpack_service_arguments
from pconnect.errors import UnsupportedValueError
from pconnect.link.connection import LIBRARY_TAGS
from pconnect.loop.network import Mesh
from pconnect.messaging.collective_call import leave
from pconnect.messaging.send_receive import precv, psend
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pserver.display.mime_bundle import make_bundle
from pserver.display.outbox import Outbox
from pserver.engine.failure import describe
from pserver.engine.interrupts import Interrupts
from pserver.engine.workspace import Workspace
from pserver.services import registry
from pserver.services.registry import EngineState
from pserver.system.flush import flush_output


class CommandRunner:
    """What runs commands, once the engine has joined its network.

    Parameters
    ----------
    services
        What services work on.
    outbox
        What goes to the front end; counted as the command's that runs.
    interrupts
        Which may end the command that runs.

    Attributes
    ----------
    mesh, workspace, services
        Of the engine.
    number
        The last command, or the one that runs; 0 before the first.
    has_limit
        Whether that has a time limit.
    """

    def __init__(
        self,
        mesh: Mesh,
        workspace: Workspace,
        services: EngineState,
        outbox: Outbox,
        interrupts: Interrupts,
    ) -> None:
        self.mesh = mesh
        self.workspace = workspace
        self.services = services
        self._outbox = outbox
        self._interrupts = interrupts
        self._client = mesh.connections[0]
        self.number = 0
        self.has_limit = False

    def run(self, message: Message) -> float | dict[str, Any]:
        """Run a command or a service; return the seconds that it took, or how it failed."""
        number, (_, epoch, options) = message.tag, message.value
        if epoch > self.mesh.epoch:
            self.mesh.begin_epoch(epoch)
        self.number, self.has_limit = number, options.get("seconds") is not None
        outcome: float | dict[str, Any]
        begin = time.perf_counter()
        self._outbox.number = number
        try:
            self._interrupts.in_command = True
            self._interrupts.check(number)
            self._execute(message)
            _show_figures()
            self._interrupts.in_command = False
            outcome = time.perf_counter() - begin
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt too are the command's failure
            self._interrupts.in_command = False
            if isinstance(error, Exception):  # an interrupt leaves them open
                _show_figures()
            leave(self.mesh, error)  # whoever waits for us in a collective call does so in vain
            outcome = describe(error) | {"values_sent": self._client.values_sent}
            outcome["seconds"] = time.perf_counter() - begin
        flush_output()
        self._outbox.release()
        self._outbox.number = 0
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
        if options.get("value"):
            self._send_value(value, tag, options)

    def _receive(self, tag: int) -> list[Any]:
        """Wait for the arguments of a command."""
        with self.mesh.event_loop.sigint_deferred:
            for old in [old for old in self._client.inbox if LIBRARY_TAGS <= old < tag]:
                self._client.take_value(old)  # of a command that was cancelled before it began
        arguments: list[Any] = precv(self._client, tag=tag)
        return arguments

    def _send_value(self, value: object, tag: int, options: dict[str, Any]) -> None:
        if options.get("display") and value is not None:
            value = list(make_bundle(value))
        try:
            psend([False, value], self._client, tag=tag)
        except UnsupportedValueError as error:
            if not options.get("pickle"):
                raise UnsupportedValueError(
                    f"{str(error).replace('value[1]', 'value', 1)}; allow_pickle=True lets it come by pickle"
                ) from None
            psend([True, pickle_value(value)], self._client, tag=tag)


def _show_figures() -> None:
    """Show what pyplot has open, if the user's code has used it with our backend; an error in it is printed."""
    backend = sys.modules.get("pserver.display.matplotlib_backend")
    if backend is not None:
        try:
            backend.show_open_figures()
        except Exception:  # noqa: BLE001 - drawing runs the user's code, whose command has done its work
            traceback.print_exc()

"""A supervisor whose client has vanished, and the client's return as another process; doc/decisions/0037-resume.md.

The command channel stays the same object. Without a link, it queues the messages for the client. The first message says
where the output continues, so no output arrives twice. The output relay limits the queue as for a client that does not
read.
"""

import contextlib
import logging
import os
from collections.abc import Sequence

from pconnect.errors import ConfigurationError, ConnectionLostError, ParallelError
from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pserver.engine.command_page import CommandPage
from pserver.orphans.orphan import TAKEN_OVER, Orphan
from pserver.orphans.returning_client import ReturningClient, refusal
from pserver.session.lifecycle import EngineState, SupervisorEvent, SupervisorLifecycle, SupervisorState
from pserver.session.login import AuthenticatedClient
from pserver.session.slot_client import SlotClient
from srp_tools.steps import deadline_after, run

log = logging.getLogger("pserver")

_THERE = "another client has this session: close that one, or come back with take_over=True"
_WORD_SECONDS = 1.0  # for one message on an empty channel


class Absence:
    """Tracks whether the client of a supervisor is connected.

    `client`: the login. `command`: the command channel. `life`: the life cycle of the supervisor.
    """

    def __init__(  # noqa: PLR0917 - all parts that concern the client
        self,
        client: AuthenticatedClient,
        command: Connection,
        life: SupervisorLifecycle,
        event_loop: EventLoop,
        slot_client: SlotClient,
        orphan: Orphan,
    ) -> None:
        self.orphan = orphan  #: the facts about the absence
        self._client = client
        self._command = command
        self._life = life
        self._event_loop = event_loop
        self._slot_client = slot_client

    @property
    def _is_open(self) -> bool:
        return self._life.state is SupervisorState.OPEN

    def lose_client(self, why: ParallelError, told: Sequence[int]) -> bool:
        """Handle the loss of the command channel: the supervisor ends or waits; return whether it waits.

        `told`: the number of bytes of each output stream that the client knows of.
        """
        if not (self._is_open and self.orphan.is_possible):
            self._life.handle(SupervisorEvent.LOST)
            return False
        self._event_loop.remove(self._command)
        self._command.reset()
        self._command.post(Kind.BACK, 0, [*told, self.orphan.notes])
        self._life.handle(SupervisorEvent.VANISHED)
        self.orphan.begin()
        self._slot_client.tell_orphaned(self.orphan.since)
        log.info("session %d, node %d: its client vanished: %s", os.getpid(), self._client.node, why)
        return True

    def look(self) -> None:
        """End the supervisor if no client has come back in time."""
        if self._life.state is SupervisorState.ORPHANED and not self.orphan.time_left():
            self._life.reason = self.orphan.expiry
            self._life.handle(SupervisorEvent.EXPIRED)

    def receive(
        self, returning: ReturningClient, engine: Connection, page: CommandPage, state: EngineState
    ) -> None:
        """Resume with a client that has come back, or tell it why that is not possible.

        `engine`: the pipe to the engine, which gets the news before the client. `state`: of the engine.
        """
        why = self._refusal(returning)
        if why is not None:
            with contextlib.suppress(ParallelError, OSError):
                run(returning.channel.send_all(refusal(why)), deadline_after(_WORD_SECONDS))
            returning.channel.close()
            return
        if self._is_open:
            self._command.post(Kind.STOPPING, 0, TAKEN_OVER)
            self._event_loop.flush(self._command)
        if self._is_open:  # otherwise it has just been lost
            self._event_loop.lose(self._command, ConnectionLostError(TAKEN_OVER))
        engine.post(Kind.BACK, 0, [returning.back.certificate, returning.back.authority])
        self._event_loop.flush(engine)
        is_ready = state in {EngineState.READY, EngineState.KILLED}
        for kind, value in self.orphan.facts(running=page.running, begun=page.begun, is_ready=is_ready):
            self._command.post(kind, 0, value)
        self._command.open(returning.channel)
        self._event_loop.add(self._command)
        self._life.handle(SupervisorEvent.RESUMED)
        self.orphan.end()
        self._slot_client.tell_orphaned(None)
        log.info("session %d, node %d: its client has come back", os.getpid(), self._client.node)
        self._event_loop.flush(self._command)

    def _refusal(self, returning: ReturningClient) -> str | None:
        """Return why a client cannot come back; ``None`` if it can, after installing its certificates."""
        if not self.orphan.is_possible or not (self._is_open or self.orphan.since):
            return ""
        if self._is_open and not returning.back.takes_over:
            return _THERE
        assert self._client.tls is not None  # noqa: S101 - clients without encryption cannot come back
        try:
            self._client.tls.renew(returning.back.certificate, returning.back.authority)
        except ConfigurationError as error:
            return str(error)
        return None

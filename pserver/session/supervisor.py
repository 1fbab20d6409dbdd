"""The supervisor of one node: does everything for its engine except the computing.

The supervisor owns the command channel. It interrupts commands, which the client sends to the engine directly, passes
on the engine's output, and immediately notices if the client is gone or the engine has died. It runs no user code, so
it stays responsive whatever the engine does.
"""

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable

from pconnect.errors import ParallelError, ProtocolError
from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, refuse_nonsense
from pconnect.session.node_state import SERVER_STOPPED
from pserver.config.session_settings import SessionSettings
from pserver.engine.failure import describe, not_begun
from pserver.limits.node_watch import NodeWatch
from pserver.limits.session_watch import SessionWatch
from pserver.limits.time_limit import Expiry, TimeLimit
from pserver.orphans.orphan import Orphan
from pserver.orphans.returning_client import Orders
from pserver.pool.passing_on import ask_daemon
from pserver.session.absence.absence import Absence
from pserver.session.engine_setup import EngineSetup
from pserver.session.job_channel import JobChannel
from pserver.session.lifecycle import (
    EngineEvent,
    EngineLifecycle,
    EngineState,
    SupervisorEvent,
    SupervisorLifecycle,
    SupervisorState,
)
from pserver.session.login import AuthenticatedClient
from pserver.session.output_relay import OutputRelay, Pace
from pserver.session.slot_client import SlotClient
from pserver.session.usage import NodeUsage
from pserver.session.worker_manager import Workers
from pserver.spawner.engine_process import START_TIMEOUT, EngineProcess, not_started
from pserver.system.session_folder import remove_folder
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after, remaining

log = logging.getLogger("pserver")

_LAST_WORDS = 0.1  # seconds for a command that has sent its result and is still on its last line at the close
_LIMIT_FAREWELL = 5.0  # seconds for a client that reads much output first; a server that stops has less time


class Supervisor:
    """A node of a session, from the login to the close."""

    def __init__(  # noqa: PLR0917 - all parts of one session
        self,
        client: AuthenticatedClient,
        engine: EngineProcess,
        folder: str,
        settings: SessionSettings,
        watch: SessionWatch,
        slot_client: SlotClient,
        jobs: socket.socket,
        orders: Orders,
        its_end: socket.socket,
    ) -> None:
        self._process = engine
        self._slot_client = slot_client
        self._event_loop = EventLoop()
        self._command = Connection(client.node, "client", client.channel, role=Role.SUPERVISOR)
        self._event_loop.add(self._command)
        self._time_limit, self._life = TimeLimit(), SupervisorLifecycle()
        self._command.on_message, self._command.on_lost = self._from_client, self._client_lost
        self._engine_life = EngineLifecycle()
        orphan = Orphan(settings.orphan_timeout)
        self._setup = EngineSetup(client, folder, engine.spawner.limits)  # `close` removes the folder
        self._absence = Absence(client, self._command, self._life, self._event_loop, slot_client, orphan)
        channel = JobChannel(self._event_loop, client, jobs)
        channel.on_renewal = self._renew
        channel.relays.attend(self._command)
        self._workers = Workers(
            channel,
            engine,
            slot_client,
            folder,
            settings.kept,
            on_detached=lambda: self._life.handle(SupervisorEvent.DETACH),
        )
        self._usage = NodeUsage(slot_client, self._command, lambda: self._process.page, self._workers)
        self._attend_engine()
        self._watch = NodeWatch(watch, folder, self._work, self._workers.runs_programs, time.monotonic())
        self._event_loop.watch(its_end.fileno(), lambda: self._obey(orders, its_end))
        slot_client.on_end = self._end

    def _attend_engine(self) -> None:
        self._output = OutputRelay(self._event_loop, self._command, self._process.outputs, self._process.page)
        self._engine = Connection(
            self._setup.client.node, "engine", Channel(self._process.pipe), role=Role.OVERSEER
        )
        self._engine.on_message, self._engine.on_lost = self._from_engine, self._engine_lost
        self._event_loop.add(self._engine)
        self._pace = Pace(self._event_loop, self._command, self._engine)
        self._event_loop.watch(self._process.pidfd, self._engine_died)
        self._workers.attend_engine()

    def _obey(self, orders: Orders, its_end: socket.socket) -> None:
        if its_end.recv(1) == b"r":
            client = orders.returning.popleft()
            self._absence.receive(client, self._engine, self._process.page, self._engine_life.state)
            return
        self._event_loop.unwatch(its_end.fileno())
        self._end(self._life.reason or SERVER_STOPPED)

    def _end(self, reason: str) -> None:
        self._life.reason = reason
        self._life.handle(SupervisorEvent.STOP)

    def _client_lost(self, error: ParallelError) -> None:
        if self._absence.lose_client(error, self._output.told()):
            self._workers.client_vanished(str(error))

    def run(self) -> None:
        """Serve the client until it closes the network or is gone, its detached jobs have ended, or the server stops.

        If the system refuses a resource that this node needs, the client gets the error.
        """
        try:
            self._serve()
        except OSError as error:
            log.exception("node %d cannot continue", self._setup.client.node)
            self._life.reason = f"the server cannot continue this node: {error}"
            self._tell(Kind.STOPPING, self._life.reason)

    def _serve(self) -> None:
        while self._life.is_serving:
            now = time.monotonic()
            seconds = min(self._time_limit.time_left(now), self._watch.time_left(now), self._go_on())
            self._event_loop.poll(min(seconds, self._absence.orphan.time_left()))
            self._absence.look()
            self._enforce_limits()
            if self._life.state is SupervisorState.DETACHED and self._workers.detached_jobs.is_done:
                self._life.handle(SupervisorEvent.FINISHED)
        if self._life.state is SupervisorState.CLOSING:
            self._close_engine()
        if self._life.state is SupervisorState.STOPPING:
            self._tell(Kind.STOPPING, self._life.reason)

    def _go_on(self) -> float:
        """Do the work that is due; return the seconds until the next call."""
        seconds = min(self._output.tend(), self._workers.tend())
        self._pace.tend(has_process=self._engine_life.has_process)
        self._usage.tend()
        return seconds

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Serve the client until a condition holds, for at most `seconds`."""

        def holds() -> bool:
            self._go_on()
            return condition()

        with contextlib.suppress(TimeoutError):
            self._event_loop.run_until(holds, deadline_after(seconds), what)

    def close(self) -> None:
        """End the engine, and remove the folder of the session."""
        self._usage.end(self._life.reason or "its client is gone")
        self._workers.close(self._life.reason)
        self._process.kill()
        remove_folder(self._setup.folder)
        self._event_loop.close()
        if self._command.error or self._absence.orphan.since:
            why = self._life.reason or f"its client is gone: {self._command.error}"
            log.info("session %d, node %d: %s", os.getpid(), self._setup.client.node, why)

    def _tell(self, kind: Kind, value: object, tag: int = 0) -> None:
        """Send the last message of a session, and wait until it is sent."""
        self._command.post(kind, tag, value)
        self._wait(lambda: not self._command.wants_to_write, self._life.farewell, "the client")

    # --- messages from the client ---

    @refuse_nonsense
    def _from_client(self, message: Message) -> None:
        match message.kind:
            case Kind.SETUP:
                setup = self._setup.complete(message.tag, self._absence.orphan.set_up(message.value))
                self._engine.post(Kind.SETUP, 0, setup)
                self._event_loop.flush(self._engine)
            case Kind.INTERRUPT:
                self._process.page.interrupt(message.tag)
                self._process.interrupt()
            case Kind.TAKEN:
                self._output.acknowledge()
            case Kind.CANCEL:
                self._cancel(message.tag)
            case Kind.KILL:
                self._kill_engine()
            case Kind.RESTART | Kind.MEMBERS:
                self._change_mesh(message)
            case Kind.PROBE | Kind.ROUTE:
                self._engine.post(message.kind, message.tag, message.value)
                self._event_loop.flush(self._engine)
            case Kind.RENEW:
                self._renew(message.value)
                self._command.post(Kind.RENEW, message.tag)
            case Kind.NEIGHBOURS | Kind.QUERY | Kind.STATISTICS:
                self._answer(message)
            case Kind.CLOSE:
                self._life.end_grace = message.tag / 1000
                if self._life.handle(SupervisorEvent.CLOSE) is SupervisorState.DETACHED:
                    self._command.post(Kind.CLOSED, 0, False)
        self._event_loop.flush(self._command)

    def _renew(self, certificate: bytes) -> None:
        """Use a new certificate from now on; the engine reads the message before it accepts another connection."""
        if self._setup.client.tls is not None:
            self._setup.client.tls.renew(certificate)
            self._engine.post(Kind.RENEW, 0, certificate)
            self._event_loop.flush(self._engine)

    def _cancel(self, number: int) -> None:
        """Cancel a command that has not begun, or interrupt it; see `pserver.engine.command_page` for the order."""
        page = self._process.page
        self._engine.post(Kind.CANCEL, number)
        page.count_cancel()
        self._event_loop.flush(self._engine)
        if page.begun < number:
            failure = describe(not_begun()) | {"values_sent": 0, "seconds": 0.0}
            self._command.post(Kind.DONE, number, [failure, 0, 0, 0])
        elif page.running == number:
            page.interrupt_one(number)
            self._process.interrupt()

    def _work(self) -> tuple[object, bool, int]:
        """See `NodeWatch`."""
        is_busy = bool(self._process.page.running) or self._workers.running() > 0
        is_detached = self._life.state is SupervisorState.DETACHED
        return self._usage.total(), is_busy or is_detached, self._output.printed

    def _enforce_limits(self) -> None:
        """End the session if it exceeds a limit; at a command's time limit, interrupt it, and kill the engine later."""
        why = self._watch.look(time.monotonic())
        if why and self._life.is_serving:
            log.warning("session %d, node %d: ending it: %s", os.getpid(), self._setup.client.node, why)
            self._life.reason, self._life.farewell = why, _LIMIT_FAREWELL
            self._life.handle(SupervisorEvent.STOP)
        page = self._process.page
        number, deadline = page.limit()
        self._time_limit.look(number, deadline)
        match self._time_limit.expire(time.monotonic()):
            case Expiry.INTERRUPT:
                page.expire(number)
                self._process.interrupt()
            case Expiry.KILL:
                self._engine_life.why_killed = self._time_limit.outcome
                self._kill_engine()

    def _kill_engine(self) -> None:
        self._engine_life.handle(EngineEvent.KILL)
        self._workers.engine_is_killed()
        self._process.signal(signal.SIGKILL)

    def _answer(self, question: Message) -> None:
        if question.kind is Kind.NEIGHBOURS:
            ask_daemon(question.tag, self._command, self._slot_client, self._event_loop)
        else:
            self._usage.answer(question)

    def _close_engine(self) -> None:
        """Let the engine end by itself, and tell the client whether it must be killed."""
        if self._engine_life.handle(EngineEvent.CLOSE) is EngineState.CLOSING:
            page = self._process.page
            page.stop_all()
            self._await_end(_LAST_WORDS)
            if page.running:
                page.interrupt_one(page.running)
                self._process.interrupt()
            self._engine.post(Kind.CLOSE)
            self._wait(lambda: not self._engine_life.has_process, self._life.end_grace, "the engine")
        self._tell(Kind.CLOSED, self._engine_life.has_process)
        # The client closes its end when all nodes have answered. If we closed first, it would see a lost connection.
        self._wait(lambda: self._command.error is not None, 5.0, "the client")
        self._life.reason = "the network was closed"
        self._life.handle(SupervisorEvent.CLOSED)

    def _await_end(self, seconds: float) -> None:
        """Wait for the end of the running command, by polling: no event reports it."""
        deadline = deadline_after(seconds)
        while self._process.page.running and remaining(deadline):
            self._wait(lambda: not self._process.page.running, 0.005, "the end of a command")

    # --- messages, output and end of the engine ---

    @refuse_nonsense
    def _from_engine(self, message: Message) -> None:
        if message.kind is Kind.TIMED:
            return  # the limit is in the page, and the loop checks the page after this message
        if message.kind is Kind.REFUSED:
            self._setup.log_refusal(message)
            return
        if message.kind is Kind.FRONT_END:
            self._output.drain()  # output that was printed before the display must arrive before it
        elif message.kind is Kind.MESHED and "pid" in message.value:
            self._engine_meshed()
        if self._absence.orphan.note(message, is_orphaned=self._command.is_awaited):
            self._command.post(message.kind, message.tag, message.value)
            self._event_loop.flush(self._command)

    def _engine_lost(self, error: ParallelError) -> None:
        if isinstance(error, ProtocolError):  # user code has written to our pipe
            self._engine_life.why_killed = f"its server cannot understand it: {error}"
            self._kill_engine()

    def _engine_meshed(self) -> None:
        if self._engine_life.handle(EngineEvent.MESHED) is EngineState.READY:
            self._workers.engine_is_ready()

    def _engine_died(self) -> None:
        self._event_loop.unwatch(self._process.pidfd)
        how = self._process.spawner.describe_exit(self._process.exit_code())
        if self._process.spawner.is_gone:
            self._engine_life.why_killed = "the process that starts engines has ended"
        if self._engine_life.why_killed:
            how += f" ({self._engine_life.why_killed})"
        state = self._engine_life.handle(EngineEvent.ENDED)
        self._event_loop.drain(self._engine)  # its last messages
        self._output.end()
        self._usage.engine_ended()
        self._workers.engine_ended(how)
        self._event_loop.watch(self._process.its_handover.fileno(), self._refuse_data)
        if state is EngineState.REPLACING:
            self._replace_engine()
        elif state is EngineState.DEAD:
            death = {"how": how, "last_output": self._output.last, "command": self._process.page.running}
            self._absence.orphan.note_death(death)
            self._command.post(Kind.DIED, 0, death)
            self._event_loop.flush(self._command)

    def _refuse_data(self) -> None:
        if not self._process.refuse_handover():
            self._stop_refusing()

    def _stop_refusing(self) -> None:
        with contextlib.suppress(KeyError):  # the watch has already ended
            self._event_loop.unwatch(self._process.its_handover.fileno())

    # --- restart of the engine ---

    def _change_mesh(self, message: Message) -> None:
        if message.kind is Kind.MEMBERS or self._setup.client.node not in message.value[0]:
            # The engine must know the change before another engine connects. Our answer confirms that it will.
            self._engine.post(message.kind, message.tag, message.value)
            self._event_loop.flush(self._engine)
            self._command.post(message.kind, message.tag)
            return
        self._engine_life.restart = message.tag
        is_dead = self._engine_life.state is EngineState.DEAD
        match self._engine_life.handle(EngineEvent.RESTART):
            case EngineState.RESTARTING:
                self._workers.engine_is_killed()
                self._process.signal(signal.SIGKILL)
            case EngineState.REPLACING if is_dead:
                self._replace_engine()

    def _replace_engine(self) -> None:
        """Replace an engine that has ended with a new engine, which waits for its set-up."""
        self._output.close()
        self._time_limit = TimeLimit()
        self._engine_life.why_killed = ""
        self._event_loop.discard(self._engine)
        self._stop_refusing()
        steps = self._process.start(self._request_spawner)
        self._event_loop.background.start(steps, deadline_after(START_TIMEOUT), self._engine_replaced)

    def _engine_replaced(self, outcome: Exception | None) -> None:
        """Attach the new engine, or tell the client why it did not start."""
        why = None
        if outcome is None:
            self._engine_life.handle(EngineEvent.STARTED)
            self._attend_engine()
        else:
            self._engine_life.handle(EngineEvent.FAILED)
            self._event_loop.watch(self._process.its_handover.fileno(), self._refuse_data)
            why = not_started(outcome, self._process)
        self._command.post(Kind.RESTART, self._engine_life.restart, why)
        self._event_loop.flush(self._command)

    def _request_spawner(self, end: socket.socket) -> None:
        self._workers.spawner_is_gone()
        self._slot_client.request_spawner(end)

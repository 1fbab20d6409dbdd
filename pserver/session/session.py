"""A session: one process that serves one client, from its login until its last node has ended.

The client logs in once, for its first node on this server. For each further node, it opens another command channel,
which the daemon passes on to this process. There, the client proves its identity with its certificate or, over a local
link, with its token. The main thread only accepts these channels.

Each node has a supervisor in its own thread, with its own event loop and its own sockets to the daemon and to the
spawner. So nodes share no state that needs a lock, and a node that waits for the end of its engine delays no other
node. (doc/decisions/0014-one-session.md has the costs of this design.)
"""

import contextlib
import dataclasses
import functools
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from pconnect.errors import ConnectionLostError, ParallelError, ServerRefusedError
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT, bound_buffers, prepare
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import HELLO, NO_LIMIT, Preamble
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import encode_message
from pserver.accounts.session_account import SessionAccount
from pserver.config.session_settings import SessionSettings
from pserver.ctl.administrator import serve_administrator
from pserver.limits.session_watch import SessionWatch
from pserver.orphans.returning_client import (
    MESSAGE_BYTES,
    HandedOverError,
    Orders,
    Return,
    ReturningClient,
)
from pserver.session.login import (
    AuthenticatedClient,
    accept_back,
    accept_client,
    accept_node,
    admit,
    tell_failure,
    words_of,
)
from pserver.session.slot_client import SlotClient
from pserver.session.supervisor import Supervisor
from pserver.session.way_back import WayBack
from pserver.spawner.engine_process import START_TIMEOUT, EngineProcess, not_started
from pserver.spawner.spawner import SpawnerProcess
from pserver.system.descriptors import receive_descriptors
from pserver.system.log import set_up, take_down
from pserver.system.processes import name_process, raise_descriptor_limit, set_title, user_in_title
from pserver.system.session_folder import kept_folder, make_folder
from srp_tools.steps import Steps, deadline_after, run

log = logging.getLogger("pserver")

_FAREWELL_SECONDS = 1.0  # for the last message to a client
# The limit for handshakes at the same time; more nodes wait in the socket to the daemon.
_MAX_HANDSHAKES = 32


def session_main(
    sock: socket.socket, control: socket.socket, settings: SessionSettings, received: bytes
) -> None:
    """Run one session, in a process that the starter has forked."""
    os.setsid()  # Ctrl-C in the daemon's terminal must reach only the daemon
    name_process("session")
    set_title(f"session {os.getpid()}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    account = None if settings.account is None else SessionAccount(settings.account, settings.kept)
    spawner = SpawnerProcess((sock, control), settings.limits, account.account if account else None)
    raise_descriptor_limit()
    set_up(settings.log_file, form=settings.log_form(), at_once=True)
    if spawner.cgroup.problem:
        log.error("session %d has no cgroup: %s", os.getpid(), spawner.cgroup.problem)
    threading.excepthook = _log_failure
    place = _Place(control, EngineProcess(spawner.for_node()))
    try:
        prepare(sock, DEFAULT_PEER_TIMEOUT)
        bound_buffers(sock)
        deadline = deadline_after(settings.login_timeout)
        try:
            client = run(accept_client(sock, settings, received, account, control), deadline)
        except HandedOverError:
            sock.close()
            place.close()
            return
        except (ParallelError, OSError) as error:
            tell_failure(control, settings.user, error)
            sock.close()
            place.close()
            return
        set_title(f"session {os.getpid()} {user_in_title(client.user)}")
        if client.is_control:
            serve_administrator(client.channel, client.user, control)
            place.close()
            return
        if account is not None:
            settings = dataclasses.replace(settings, kept=account.kept)
        _Session(client, spawner, settings).run(place)
    finally:
        spawner.close()
        take_down()


def _log_failure(failure: threading.ExceptHookArgs) -> None:
    log.error("a supervisor failed", exc_info=failure.exc_value)


@dataclass(frozen=True)
class _Place:
    """The parts of a node that exist before its client is admitted: its socket to the daemon, and its engine."""

    control: socket.socket
    engine: EngineProcess

    def close(self) -> None:
        self.engine.kill()
        self.engine.close()
        self.control.close()


class _Session:
    """A session after the login: its nodes, and the sockets on which further nodes arrive."""

    def __init__(
        self, client: AuthenticatedClient, spawner: SpawnerProcess, settings: SessionSettings
    ) -> None:
        self._client = client
        self._spawner = spawner
        self._settings = settings
        self._since = time.time()
        self._watch = SessionWatch(settings.limits, time.monotonic())
        self._event_loop = EventLoop()
        self._joins, self._its_joins = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._joins.setblocking(False)
        self._handshakes = 0
        self._clients: dict[int, AuthenticatedClient] = {}  # the login of each living node
        self._nodes: dict[threading.Thread, Orders] = {}  # with the orders for their supervisors
        self._ended: deque[threading.Thread] = deque()  # threads whose supervisors have finished
        self._bell, self._ring = socket.socketpair()  # carries a byte for each of them

    def run(self, place: _Place) -> None:
        """Serve the nodes until all have ended; `place`: of the first node."""
        stop, its_stop = socket.socketpair()
        its_stop.setblocking(False)
        signal.set_wakeup_fd(its_stop.fileno())
        signal.signal(signal.SIGTERM, lambda *_: None)
        self._event_loop.watch(stop.fileno(), lambda: self._stop(stop))
        self._event_loop.watch(self._bell.fileno(), self._join_ended)
        self._watch_joins()
        self._begin(self._client, place)
        while self._nodes:
            self._event_loop.poll(self._event_loop.longest_sleep)
        signal.set_wakeup_fd(-1)
        self.close()

    def close(self) -> None:
        """Close the sockets of the session, once all nodes have ended."""
        self._event_loop.close()
        for end in (self._joins, self._its_joins, self._bell, self._ring):
            end.close()

    def _stop(self, stop: socket.socket) -> None:
        """Stop all supervisors because the server stops, and accept no further nodes."""
        self._event_loop.unwatch(stop.fileno())
        if self._handshakes < _MAX_HANDSHAKES:
            self._event_loop.unwatch(self._joins.fileno())
        self._event_loop.background.close()
        for orders in self._nodes.values():
            with contextlib.suppress(OSError):  # the supervisor is just ending
                orders.stop()

    def _join_ended(self) -> None:
        """Forget a node whose thread is about to return."""
        self._bell.recv(1)
        thread = self._ended.popleft()
        thread.join()
        orders = self._nodes.pop(thread)
        orders.sock.close()
        self._clients.pop(orders.node, None)

    # --- further nodes ---

    def _watch_joins(self) -> None:
        self._event_loop.watch(self._joins.fileno(), self._take_join)

    def _take_join(self) -> None:
        """Take a command channel from the daemon.

        It belongs to a further node, and then a socket to the daemon comes with it; or to a client that comes back to a
        node of this session.
        """
        try:
            data, descriptors = receive_descriptors(self._joins, MESSAGE_BYTES, 2)
        except BlockingIOError:
            return
        except OSError as error:
            log.error("refused a further node: the session cannot open more files: %s", error.strerror)
            return
        sock, *controls = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        prepare(sock, DEFAULT_PEER_TIMEOUT)
        bound_buffers(sock)
        self._handshakes += 1
        if self._handshakes == _MAX_HANDSHAKES:
            self._event_loop.unwatch(self._joins.fileno())
        steps: Steps[Any]
        if controls:
            through = self._clients.get(Preamble.unpack(data).to_node, self._client)
            steps, control = accept_node(sock, through), controls[0]
        else:
            back = Return.unpack(data)
            steps, control = accept_back(sock, self._clients.get(back.node, self._client), back), None
        deadline = deadline_after(self._settings.login_timeout)
        end = functools.partial(self._end_handshake, control)
        self._event_loop.background.start(steps, deadline, end)

    def _end_handshake(
        self, control: socket.socket | None, outcome: AuthenticatedClient | ReturningClient | Exception
    ) -> None:
        if self._handshakes == _MAX_HANDSHAKES:
            self._watch_joins()
        self._handshakes -= 1
        try:
            if isinstance(outcome, Exception):
                raise outcome
            if isinstance(outcome, ReturningClient):
                self._come_back(outcome)
                return
            assert control is not None  # noqa: S101 - of a further node
            place = _Place(control, EngineProcess(self._spawner.for_node()))
        except Exception as error:  # noqa: BLE001 - an error of one node must not end the others
            log.warning("refused a further node of network %s: %s", self._client.network_id.hex(), error)
            if not isinstance(outcome, Exception):
                outcome.channel.close()
        else:
            control = None  # now belongs to the node
            self._begin(outcome, place)
        finally:
            if control is not None:
                control.close()

    def _come_back(self, client: ReturningClient) -> None:
        """Pass a client that has come back to the supervisor of its node."""
        for orders in self._nodes.values():
            if orders.node == client.back.node:
                orders.come_back(client)
                return
        raise ConnectionLostError(f"there is no node {client.back.node}")

    # --- the threads ---

    def _begin(self, client: AuthenticatedClient, place: _Place) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(place.close)
            stack.callback(client.channel.close)
            try:
                ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
                orders = Orders(client.node, ours)
                thread = threading.Thread(
                    target=self._serve, args=(client, place, orders, theirs), name=f"node {client.node}"
                )
                thread.start()
            except (OSError, RuntimeError) as error:  # the system allows no more threads or descriptors
                log.error("refused node %d from %s: %s", client.node, self._settings.peer, error)
                return
            stack.pop_all()
        self._nodes[thread] = orders
        self._clients[client.node] = client

    def _end(self) -> None:
        self._ended.append(threading.current_thread())
        self._ring.send(b"x")

    def _serve(
        self, client: AuthenticatedClient, place: _Place, orders: Orders, its_end: socket.socket
    ) -> None:
        """Run the supervisor of one node, in its thread."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._end)
            stack.enter_context(its_end)
            stack.callback(place.close)
            stack.callback(client.channel.close)
            try:
                jobs, its_jobs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                stack.enter_context(jobs)
                stack.enter_context(its_jobs)  # kept for the next daemon
                handovers = (place.engine.handover, its_jobs, self._its_joins)
                admit(client, place.control, handovers, deadline_after(self._settings.login_timeout))
            except (ParallelError, OSError) as error:
                log.warning("refused node %d from %s: %s", client.node, self._settings.peer, error)
                if isinstance(error, ServerRefusedError):
                    self._send_away(client, HELLO, str(error), is_refused=True)
                return
            try:
                if problem := self._spawner.cgroup.problem:
                    raise ConnectionLostError(f"the server cannot set the limits of the session: {problem}")
                path, mark = self._settings.sessions_path, place.engine.spawner.mark
                folder = make_folder(place.control, mark, path.parent, path.stem)
                stack.enter_context(kept_folder(folder))
                place.engine.spawner.inherit(folder)
                facts = self._facts(client) | {"folder": folder, "mark": mark}
                slot_client = SlotClient(
                    place.control, WayBack(self._settings.sessions_path, facts, handovers)
                )
                stack.callback(slot_client.close)
                run(place.engine.start(slot_client.request_spawner), deadline_after(START_TIMEOUT))
                ends = jobs, orders, its_end
                supervisor = Supervisor(
                    client, place.engine, folder, self._settings, self._watch, slot_client, *ends
                )
            except (ParallelError, OSError) as error:  # the system refuses a resource
                why = not_started(error, place.engine)
                place.close()  # frees descriptors, which the message to the client may need
                self._send_away(client, b"", why)
                return
            with contextlib.closing(supervisor):
                supervisor.run()

    def _facts(self, client: AuthenticatedClient) -> dict[str, object]:
        """Return the facts about a node that a daemon needs."""
        settings = self._settings
        return words_of(client) | {"peer": settings.peer, "since": self._since, "salt": settings.salt}

    def _send_away(
        self, client: AuthenticatedClient, before: bytes, why: str, *, is_refused: bool = False
    ) -> None:
        """Tell a client why it gets no engine; `before`: bytes that a client still waits for if it was not admitted.

        `is_refused`: whether the server refuses the session, as it can also do earlier in a login.
        """
        log.error("cannot start node %d from %s: %s", client.node, self._settings.peer, why)
        message = before + b"".join(encode_message(Kind.STOPPING, int(is_refused), why, NO_LIMIT))
        with contextlib.suppress(ParallelError, OSError):
            run(client.channel.send_all(message), deadline_after(_FAREWELL_SECONDS))

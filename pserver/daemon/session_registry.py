"""The daemon's registry of sessions: their processes, and their reports about themselves.

Only the descriptor of its process shows that a session has ended. Until then, the daemon removes nothing that belongs
to the session, whatever happens on its sockets.
"""

import contextlib
import json
import logging
import os
import re
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pconnect.protocol.frames import Preamble, Purpose
from pconnect.protocol.preamble_check import PreambleCheck
from pserver.daemon.held_session import LoginFailure, Node, Refusal, Reply, Session, Use, count_of
from pserver.daemon.returned_clients import give_back
from pserver.daemon.returning_sessions import Returned
from pserver.daemon.session_audit import log_end, log_failure, log_request_login
from pserver.daemon.slot_service import SlotService
from pserver.starter.session_starts import Started
from pserver.system import audit
from pserver.system.descriptors import NoRoomError, json_object, receive_descriptors, takes_messages
from pserver.system.processes import await_ends, real_user, start_ticks
from pserver.system.session_folder import is_session_folder

log = logging.getLogger("pserver")

_STOP_GRACE = 3.0  # seconds for sessions to notify their clients and end
_KILL_SECONDS = 1.0  # for killed sessions to end
_MESSAGE_BYTES = 2**16  # for a report of the work of one second, see `pserver.statistics.work_report`
# Descriptors with a message: the sockets for connections to the engine, to jobs, and of further nodes.
_MAX_ENDS = 3
_NO_SENSE = "a message that makes no sense, or too many files are open to take its descriptors"
_HEX = re.compile("([0-9a-f]{2}){,64}")


class SessionRegistry:
    """The sessions of one server.

    `selector`: the daemon's; each entry's data is a function to call. `slots`: handles the messages about slots.
    `on_change`: called when `facts` changes. `request`: sends a request to the starter. `has_accounts`: whether
    sessions run under other accounts than this process, so their reports are not trusted.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        slots: SlotService,
        on_change: Callable[[], object],
        request: Callable[[Mapping[str, object], Sequence[int]], object],
        *,
        has_accounts: bool = False,
    ) -> None:
        self._selector = selector
        self._slots = slots
        self._on_change = on_change
        self._request = request
        self._has_accounts = has_accounts
        self._sessions: list[Session] = []
        #: Called with an administrator's request, and with a function that sends the answer, in JSON.
        self.on_request: Callable[[Session, Mapping[str, object], Reply], object] = lambda *_: None
        #: Returns the other members of the pool, with the facts that clients may know.
        self.members: Callable[[], list[dict[str, object]]] = list
        #: Sends the members of the pool to a socket, and closes it.
        self.on_members: Callable[[socket.socket], object] = socket.socket.close
        #: Returns why a user cannot have a session now; the answer may have changed since the login started.
        self.refusal: Refusal = lambda *_, **__: ""
        #: Returns why a user has lost access. Administrators may log in even while the server accepts no sessions.
        self.removal: Callable[[str], str] = lambda _: ""
        # Called with a node and its report or question about jobs; with a node that ends; with a session that ends.
        self.on_work: Callable[[Node, Mapping[str, object]], object] = lambda *_: None
        self.on_leave: Callable[[Node], object] = lambda _: None
        self.on_end: Callable[[Session], object] = lambda _: None
        self.begun = 0  #: how many sessions have logged in so far

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)

    def facts(self) -> list[dict[str, object]]:
        """Return the public facts about each session."""
        return [
            {
                "pid": session.pid,
                "start_ticks": session.start_ticks,
                "peer": session.peer,
                "user": session.user,
                "since": session.since,
                "network": session.network,
                "nodes": sorted(node.number for node in session.nodes if node.number),
                "detached": any(node.is_detached for node in session.nodes),
                "orphaned": session.orphaned_since,
            }
            for session in self
        ]

    def users(self) -> list[str]:
        """Return the user of each session that has logged in, except sessions for administrators' requests."""
        return [session.user for session in self if session.user is not None and not session.is_control]

    def pass_on(self, preamble: Preamble, received: bytes | bytearray, sock: socket.socket) -> str:
        """Pass a connection to the node that its preamble names; return the reason if that fails, else "".

        `received`: the bytes read from the connection so far. The caller still has to close its socket.
        """
        nodes = self._find(preamble.network_id.hex(), preamble.to_node)
        if not nodes:
            return "no such network and node on this server"
        node = next((node for node in nodes if node.session.check.is_of_member(received)), None)
        if node is None:
            return "it does not have the key of the network"
        if not node.session.check.is_new(received):
            return "its preamble was used before"
        try:
            if preamble.purpose is Purpose.JOIN:
                self._pass_on_join(node, received, sock)
            else:
                handover = node.handovers[min(preamble.endpoint, 1)]
                socket.send_fds(handover, [received], [sock.fileno()])
        except OSError as error:
            return f"its session does not accept it: {error.strerror}"
        return ""

    def _pass_on_join(self, node: Node, received: bytes | bytearray, sock: socket.socket) -> None:
        """Pass a command channel to the session of a node, with a socket that connects the further node to us."""
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(node.handovers[2], [received], [sock.fileno(), theirs.fileno()])
            except OSError:
                control.close()
                raise
        self._attend_node(node.session, control)

    def _find(self, network: str, number: int) -> list[Node]:
        """Return the nodes with this number; several if users claim the same network with different keys."""
        return [
            node
            for session in self
            if session.network == network
            for node in session.nodes
            if node.number == number and node.handovers
        ]

    def attend(self, started: Started, peer: str, claimed: str | None = None) -> Session:
        """Register a new session and its first node; `claimed`: the user that the client named."""
        session = self._add(Session(started, peer, time.time(), claimed=claimed))
        self._attend_node(session, started.control)
        return session

    def _add(self, session: Session) -> Session:
        session.start_ticks = start_ticks(session.pid)
        self._sessions.append(session)
        self._selector.register(session.started.pidfd, selectors.EVENT_READ, lambda: self._remove(session))
        return session

    def take_back(self, control: socket.socket, facts: Returned, pidfd: int, ends: Sequence[int]) -> Session:
        """Take over a node of a session that has lost its daemon, with the descriptors; return the session."""
        session = next((session for session in self if session.pid == facts.pid), None)
        if session is None:
            started = Started(facts.pid, pidfd, control, _nobody_knows)
            session = self._add(Session(started, facts.peer, facts.since, facts.user, network=facts.network))
            session.check = PreambleCheck(facts.key)
            self.begun += 1
        else:
            os.close(pidfd)
        for node in [node for node in session.nodes if node.number == facts.node]:
            self._remove_node(node)  # it returns to the same daemon, which had stopped sending it messages
        node = self._attend_node(session, control)
        node.number, node.is_detached, node.is_exclusive = facts.node, facts.is_detached, facts.is_exclusive
        node.handovers = _sockets(ends)
        session.folders[facts.folder] = facts.mark
        log.info(
            "user %s from %s: session %d, node %d is back", facts.user, facts.peer, facts.pid, facts.node
        )
        self._on_change()
        return session

    def _attend_node(self, session: Session, control: socket.socket) -> Node:
        control.setblocking(False)
        node = Node(session, control)
        session.nodes.append(node)
        self._selector.register(control, selectors.EVENT_READ, lambda: self._hear(node))
        return node

    def _hear(self, node: Node) -> bool:
        """Read and handle one message about a node; false if there is none."""
        try:
            data, ends = receive_descriptors(node.control, _MESSAGE_BYTES, _MAX_ENDS)
        except BlockingIOError:
            return False
        except NoRoomError as error:
            log.warning("session %d sent %s: %.200r", node.session.pid, _NO_SENSE, error.message)
            return True
        except OSError:
            data, ends = b"", []
        if not data:
            self._remove_node(node)
            self._on_change()
            return False
        self._take(node, data, ends)
        return True

    def _take(self, node: Node, data: bytes, ends: Sequence[int]) -> None:
        match words := json_object(data):
            case {"folder": str(folder), "mark": int(mark)} if not ends:
                if self._knows_account(node.session):
                    node.session.folders[folder] = mark
            case {"user": str(user), "network": str(network), "key": str(key), "node": int(number)} if (
                not node.number
                and 0 < number < 2**32
                and _HEX.fullmatch(key)
                and _HEX.fullmatch(network)
                and len(ends) == _MAX_ENDS
                and all(map(takes_messages, ends))
            ):
                who = user, network, number, words.get("exclusive") is True
                self._register(node, who, bytes.fromhex(key), ends)
            case {"administrator": str(user), "request": dict(request)} if not ends and not node.number:
                self._administer(node, user, request)
            case {"failed": dict(failed)} if not ends and (failure := LoginFailure.read(failed)):
                node.session.failure = failure
                log_failure(node.session.peer, failure)
            case {"used": [int(), int(), int(), int()] as counts, "ended": str(how), **more} if (
                node.number and not ends
            ):
                running, memory = (count_of(more.get(each)) for each in ("running", "memory"))
                node.session.usage[node.number] = Use([*map(count_of, counts)], running, time.time(), memory)
                node.session.how = how or node.session.how
            case ({"spawner": int()} | {"members": True}) as words if len(ends) == 1 and takes_messages(
                ends[0]
            ):
                self._serve_end(node.session, words, ends[0])
            case ({"detached": True} | {"orphaned": None | float()}) as words if node.number and not ends:
                node.note_absence(words)
                self._on_change()
            case {"resume": {"network": str(network), "node": int(number)} as words} if len(ends) == 1:
                give_back(node, words, data, ends[0], self._find(network, number))
            case told if told and node.number and node.session.network is not None:
                self._take_of_jobs(node, told, ends)
            case _:
                for end in ends:
                    os.close(end)
                log.warning("session %d sent %s: %.200r", node.session.pid, _NO_SENSE, data)

    def _take_of_jobs(self, node: Node, told: dict[str, Any], ends: Sequence[int]) -> None:
        if not ends and not told.keys().isdisjoint({"work", "running", "spans", "statistics"}):
            self.on_work(node, told)
        else:
            party = node.session.user, node.session.network
            self._slots.take(node, party, node.control, told, ends)

    def _knows_account(self, session: Session) -> bool:
        """Whether the daemon can act for a session with exactly the rights of the session's account."""
        if self._has_accounts and session.uid is None:
            session.uid = real_user(session.pid) or None  # never with the rights of root
        return not self._has_accounts or session.uid is not None

    def _register(self, node: Node, who: tuple[str, str, int, bool], key: bytes, ends: Sequence[int]) -> None:
        """Record the user of a node after a login, and answer the session, which waits for it."""
        user, network, number, is_alone = who
        session = node.session
        taken = any(node.session.check.key == key for node in self._find(network, number))
        taken |= session.failure is not None  # a login that was given up is over
        if session.claimed not in {None, user}:
            log.error(
                "session %d was started for user %r, but claims user %r", session.pid, session.claimed, user
            )
            taken = True
        is_new = not taken and session.user is None
        refusal = self.refusal(user, network, is_exclusive=is_alone) if is_new else ""
        if taken or refusal:
            for end in ends:
                os.close(end)
        else:
            if session.network is None:
                session.check = PreambleCheck(key)
            self.begun += session.user is None
            node.is_exclusive = is_alone and is_new
            session.user, session.network = user, network
            node.number, node.handovers = number, _sockets(ends)
            audit.login(session.peer, user, session.pid, number, network)
        with contextlib.suppress(OSError):
            node.control.send(refusal.encode() or (b"taken" if taken else b"ok"))
        if refusal:
            session.failure = LoginFailure(user, refusal, is_refused=False, has_proved=True)
            log_failure(session.peer, session.failure)
        self._on_change()

    def _administer(self, node: Node, user: str, request: Mapping[str, object]) -> None:
        """Answer a request from a session that only forwards an administrator's requests."""
        session = node.session
        if session.claimed not in {None, user} or session.user not in {None, user}:
            log.error("session %d was started for a user other than %r", session.pid, user)
            return
        if why := self.removal(user):
            session.failure = LoginFailure(user, why, is_refused=False, has_proved=True)
            log_failure(session.peer, session.failure)
        elif session.user is None:
            session.user = user
            log_request_login(session)
        if why:
            node.tell(json.dumps({"error": why, "is_last": True}))
        else:
            self.on_request(session, request, node.tell)

    def _remove_node(self, node: Node) -> None:
        self._selector.unregister(node.control)
        node.session.nodes.remove(node)
        for other in node.session.nodes[:1]:
            other.is_exclusive |= node.is_exclusive
        self.on_leave(node)
        self._slots.leave(node)
        node.control.close()
        for handover in node.handovers:
            handover.close()

    def _serve_end(self, session: Session, words: Mapping[str, object], end: int) -> None:
        """Fulfil a session's request for a spawner or for the members of the pool, on a socket that it sent."""
        if "members" in words:
            self.on_members(socket.socket(fileno=end))
        else:
            self._ask_for_spawner(session, end)

    def _ask_for_spawner(self, session: Session, end: int) -> None:
        """Have the starter fork another spawner for a session; if that fails, the session's socket closes."""
        log.warning("session %d of %s has lost its spawner", session.pid, session.peer)
        try:
            if not self._knows_account(session):
                raise OSError("the account of the session is not known")
            self._request({"spawner": session.pid, "uid": session.uid}, [end])
        except OSError as error:
            log.error("cannot start another spawner for session %d: %s", session.pid, error)
        finally:
            os.close(end)

    def _remove(self, session: Session) -> None:
        self._hear_out(session)
        for node in list(session.nodes):  # another process still has their ends of the sockets
            self._remove_node(node)
        self._selector.unregister(session.started.pidfd)
        os.close(session.started.pidfd)
        self._sessions.remove(session)
        session.has_ended = True
        self.on_end(session)
        session.started.when_ended(lambda code: log_end(session, code))
        for folder, mark in session.folders.items():
            if is_session_folder(folder, session.uid):  # left by a killed session
                self._request({"remove": folder, "mark": mark, "uid": session.uid}, ())
            elif os.path.lexists(folder):
                log.warning(
                    "session %d has named %.200r, which is not a session folder and was not removed",
                    session.pid,
                    folder,
                )
        self._on_change()

    def _hear_out(self, session: Session) -> None:
        """Handle the last messages of a session that has ended, for example about its leases."""
        for node in list(session.nodes):
            while self._hear(node):
                pass

    def end_all(self) -> None:
        """End all sessions; kill sessions that take too long."""
        for session in self:
            session.signal(signal.SIGTERM)
            for node in session.nodes:
                if not node.number:  # it waits for an answer to its login, which will not come
                    with contextlib.suppress(OSError):
                        node.control.shutdown(socket.SHUT_WR)
        sessions = {session.started.pidfd: session for session in self}
        living = await_ends(sessions, _STOP_GRACE)
        for pidfd in living:
            sessions[pidfd].signal(signal.SIGKILL)
        await_ends(living, _KILL_SECONDS)
        for session in self:
            self._hear_out(session)
            log_end(session, None)


def _nobody_knows(tell: Callable[[int | None], object]) -> None:
    """Report that the exit code of a session is unknown, because another daemon started it."""
    tell(None)


def _sockets(descriptors: Sequence[int]) -> list[socket.socket]:
    """Return non-blocking sockets for these descriptors."""
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for sock in sockets:
        sock.setblocking(False)
    return sockets

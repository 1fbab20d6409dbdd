"""The sessions of a server, as its daemon holds them: their processes, and what they have said about themselves."""

import contextlib
import json
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from pconnect.protocol.frames import Preamble
from pserver.daemon.slot_service import SlotService
from pserver.system.session_folder import remove_folder

log = logging.getLogger("pserver")

_STOP_GRACE = 3.0  # seconds for sessions to tell their clients and end
_MESSAGE_BYTES = 4096
_MAX_ENDS = 2  # descriptors with a message: where data connections to the engine go, and where those of jobs


@dataclass(eq=False)
class Session:
    """A session process, and what it has said about itself."""

    process: BaseProcess
    control: socket.socket
    peer: str
    since: float
    user: str | None = None  # once it has logged in
    network: str | None = None
    node: int = 0
    handovers: Sequence[socket.socket] = ()  # for data connections to the engine, and for those of jobs
    folder: str | None = None
    is_detached: bool = False


class SessionRegistry:
    """The sessions of one server.

    Parameters
    ----------
    selector
        The daemon's; each entry's data is a function to call.
    slots
        Hears what sessions say about slots.
    on_change
        Called when `facts` says something else.
    """

    def __init__(
        self, selector: selectors.BaseSelector, slots: SlotService, on_change: Callable[[], object]
    ) -> None:
        self._selector = selector
        self._slots = slots
        self._on_change = on_change
        self._sessions: dict[int, Session] = {}  # by sentinel

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def __len__(self) -> int:
        return len(self._sessions)

    def count_logins(self) -> int:
        """Return how many sessions have not logged in yet."""
        return sum(session.user is None for session in self)

    def facts(self) -> list[dict[str, object]]:
        """Return what others may know of each session."""
        return [
            {
                "pid": session.process.pid,
                "peer": session.peer,
                "user": session.user,
                "since": session.since,
                "network": session.network,
                "detached": session.is_detached,
            }
            for session in self
        ]

    def pass_on(self, preamble: Preamble, received: bytes | bytearray, sock: socket.socket) -> str:
        """Give a data connection to the session that it is for; return why not, if so.

        `received` is what was read from it; it stays open here, too.
        """
        network = preamble.network_id.hex()
        for session in self:
            if session.network == network and session.node == preamble.to_node and session.handovers:
                try:
                    handover = session.handovers[min(preamble.endpoint, 1)]
                    socket.send_fds(handover, [received], [sock.fileno()])
                except OSError as error:
                    return f"its engine does not take it ({error.strerror})"
                return ""
        return "no such network and node here"

    def attend(self, process: BaseProcess, control: socket.socket, peer: str) -> Session:
        """Look after a session that has been started."""
        control.setblocking(False)
        session = Session(process, control, peer, time.time())
        self._sessions[process.sentinel] = session
        self._selector.register(process.sentinel, selectors.EVENT_READ, lambda: self._remove(session))
        self._selector.register(control, selectors.EVENT_READ, lambda: self._hear(session))
        return session

    def _hear(self, session: Session) -> bool:
        """Take in one message of a session: who has logged in, its folder, or of slots; false if there is none."""
        flags = socket.MSG_CMSG_CLOEXEC
        try:
            data, ends, _, _ = socket.recv_fds(session.control, _MESSAGE_BYTES, _MAX_ENDS, flags)
        except BlockingIOError:
            return False
        except OSError:
            data, ends = b"", []
        if not data:
            with contextlib.suppress(KeyError):  # it was at its end before
                self._selector.unregister(session.control)
            self._slots.silence(session)
            return False
        match _object(data):
            case {"folder": str(folder)} if not ends:
                session.folder = folder
            case {"user": str(user), "network": str(network), "node": int(node)} if (
                session.network is None and len(ends) == _MAX_ENDS
            ):
                self._register(session, (user, network, node), ends)
            case {"detached": True} if session.network is not None and not ends:
                session.is_detached = True
                self._on_change()
            case told if told and session.network is not None:
                self._slots.take(session, session.network, session.control, told, ends)
            case _:
                for end in ends:
                    os.close(end)
                log.warning("session %d says what makes no sense: %.200r", session.process.pid, data)
        return True

    def _register(self, session: Session, who: tuple[str, str, int], ends: Sequence[int]) -> None:
        """Record who has logged in, and answer the session, which waits for that."""
        user, network, node = who
        handovers = [socket.socket(fileno=descriptor) for descriptor in ends]
        taken = any((other.network, other.node) == (network, node) for other in self._sessions.values())
        for handover in handovers:
            handover.setblocking(False)
            if taken:
                handover.close()
        if not taken:
            session.user, session.network, session.node = user, network, node
            session.handovers = handovers
            log.info("user %s from %s: session %d", session.user, session.peer, session.process.pid)
        with contextlib.suppress(OSError):
            session.control.send(b"taken" if taken else b"ok")
        self._on_change()

    def _remove(self, session: Session) -> None:
        while self._hear(session):  # else a lease would end whose process it has told of at last
            pass
        sentinel = session.process.sentinel
        self._selector.unregister(sentinel)
        with contextlib.suppress(KeyError):
            self._selector.unregister(session.control)
        del self._sessions[sentinel]
        self._slots.leave(session)
        session.process.join()
        log.info("session %d of %s ended (%s)", session.process.pid, session.peer, session.process.exitcode)
        session.process.close()
        session.control.close()
        for handover in session.handovers:
            handover.close()
        if session.folder:
            remove_folder(session.folder)  # it has done so itself, unless it was killed
        self._on_change()

    def end_all(self) -> None:
        """End all sessions; those that take too long are killed."""
        for session in self:
            session.process.terminate()
        deadline = time.monotonic() + _STOP_GRACE
        for session in self:
            session.process.join(max(0.0, deadline - time.monotonic()))
            if session.process.exitcode is None:
                session.process.kill()
                session.process.join(1.0)


def _object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that a session has sent; an empty one if it is none."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}

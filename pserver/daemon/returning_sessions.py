"""The socket in the run-time folder on which sessions that have lost their daemon return, for this account alone.

Its path contains the server's name, so a daemon takes back only sessions of this name. First, a session sends a
description of itself, with descriptors of its process and of its handover sockets.
"""

import json
import logging
import math
import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pconnect.errors import AuthenticationError
from pconnect.link.local_link import check_account, peer_pid
from pserver.daemon.callback_selector import Pauses
from pserver.daemon.door.arrivals import Source
from pserver.system.descriptors import receive_descriptors, stands_for, takes_messages
from pserver.system.kept_socket import KeptSocket

log = logging.getLogger("pserver")

_MESSAGE_BYTES = 4096
_SILENCE_SECONDS = 5.0  # for the first message of a connection; a session sends it immediately
_ENDS = 4  # descriptors: the process and three handover sockets


class Returned(NamedTuple):
    """The description of a node that has lost its daemon; see `pserver.session.way_back`."""

    pid: int
    user: str
    network: str
    key: bytes
    salt: bytes  #: of its user's verifier when the session started; empty: no verifier
    node: int
    peer: str
    since: float
    folder: str
    mark: int
    is_detached: bool
    is_exclusive: bool = False


class ReturningSessions:
    """The socket on which sessions return.

    `selector`: the daemon's; each entry's data is a function to call. `take_back`: takes over a control socket, the
    description of its node, and the descriptors, the process's first.
    """

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        take_back: Callable[[socket.socket, Returned, int, Sequence[int]], object],
    ) -> None:
        self._selector = selector
        self._take_back = take_back
        self._deadlines: dict[socket.socket, float] = {}  # of connections that have sent nothing yet
        self._pauses = Pauses(selector)
        self._kept = KeptSocket(
            path,
            socket.SOCK_SEQPACKET,
            self._serve,
            self._pauses.unregister,
            "if this server is killed, its sessions cannot return to a new server",
        )
        self.look_after_path()

    def look_after_path(self) -> None:
        """Create the socket again if its path was removed."""
        self._kept.keep()

    def close(self) -> None:
        """Stop taking sessions back."""
        for sock in list(self._deadlines):
            self._forget(sock)
            sock.close()
        self._kept.close()

    def time_left(self) -> float | None:
        """Return the seconds until `step` has something to do; ``None``: not before an event."""
        resume_at = self._pauses.next_deadline()
        instants = [*self._deadlines.values(), *([] if resume_at is None else [resume_at])]
        return max(0.0, min(instants) - time.monotonic()) if instants else None

    def step(self) -> None:
        """Close the connections that have been silent for too long; end pauses that are over."""
        now = time.monotonic()
        self._pauses.resume(now)
        for sock in [sock for sock, deadline in self._deadlines.items() if deadline <= now]:
            log.warning(
                "a session cannot return: timed out after %g s waiting for its message", _SILENCE_SECONDS
            )
            self._forget(sock)
            sock.close()

    def _serve(self, listener: socket.socket) -> None:
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))

    def _forget(self, sock: socket.socket) -> None:
        del self._deadlines[sock]
        self._selector.unregister(sock)

    def _accept(self, listener: socket.socket) -> None:
        sock = self._pauses.accept(listener, "returning sessions")
        if sock is None:
            return
        try:
            check_account(sock)
        except AuthenticationError as error:
            log.warning("a session cannot return: %s", error)
            sock.close()
            return
        sock.setblocking(False)
        self._deadlines[sock] = time.monotonic() + _SILENCE_SECONDS
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._hear(sock))

    def _hear(self, sock: socket.socket) -> None:
        self._forget(sock)
        try:
            data, ends = receive_descriptors(sock, _MESSAGE_BYTES, _ENDS)
        except OSError:
            data, ends = b"", []
        facts = _read(data, sock)
        if facts is None or not _are_right(ends, facts.pid):
            log.warning(
                "a session cannot return: its message or its descriptors are not valid, or too many files are open"
            )
            for end in ends:
                os.close(end)
            sock.close()
            return
        self._take_back(sock, facts, ends[0], ends[1:])


def _read(data: bytes, sock: socket.socket) -> Returned | None:
    """Read the description of a node; ``None`` if it is not valid or describes another process."""
    try:
        words = json.loads(data)["back"]
        facts = Returned(
            pid=int(words["pid"]),
            user=str(words["user"]),
            network=bytes.fromhex(words["network"]).hex(),
            key=bytes.fromhex(words["key"]),
            salt=bytes.fromhex(words["salt"]),
            node=int(words["node"]),
            peer=str(Source.read(words["peer"])),  # the log must not contain anything else
            since=float(words["since"]),
            folder=str(words["folder"]),
            mark=int(words["mark"]),
            is_detached=words["detached"] is True,
            is_exclusive=words.get("exclusive") is True,
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    is_right = peer_pid(sock) == facts.pid and facts.node > 0 and math.isfinite(facts.since)
    return facts if is_right else None


def _are_right(ends: Sequence[int], pid: int) -> bool:
    return len(ends) == _ENDS and stands_for(ends[0], pid) and all(map(takes_messages, ends[1:]))

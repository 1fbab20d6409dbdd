"""Sessions that have lost their daemon come back here: a socket in the run-time folder, for this account alone.

Its path is made of the server's name, so a daemon takes back the sessions of that name and no others. A session says
first what it is, with descriptors: its process, and where connections are passed on.
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
_SILENCE_SECONDS = 5.0  # until a connection has said what it is; a session says it at once
_ENDS = 4  # a descriptor of the process, and three of where connections are passed on


class Returned(NamedTuple):
    """What a node says of itself that has lost its daemon, see `pserver.session.way_back`."""

    pid: int
    user: str
    network: str
    key: bytes
    salt: bytes  #: of its user's verifier when it began; empty: there was none
    node: int
    peer: str
    since: float
    folder: str
    mark: int
    is_detached: bool
    is_exclusive: bool = False


class ReturningSessions:
    """The socket at which sessions come back.

    `selector`: the daemon's; each entry's data is a function to call. `take_back`: takes over a control socket, what
    its node has said, and the descriptors, the process's first.
    """

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        take_back: Callable[[socket.socket, Returned, int, Sequence[int]], object],
    ) -> None:
        self._selector = selector
        self._take_back = take_back
        self._deadlines: dict[socket.socket, float] = {}  # of those that have not said yet what they are
        self._pauses = Pauses(selector)
        self._kept = KeptSocket(
            path,
            socket.SOCK_SEQPACKET,
            self._serve,
            self._pauses.unregister,
            "if this server is killed, its sessions are lost",
        )
        self.look_after_path()

    def look_after_path(self) -> None:
        """Make the path again if it was removed."""
        self._kept.keep()

    def close(self) -> None:
        """Take no more sessions back."""
        for sock in list(self._deadlines):
            self._forget(sock)
            sock.close()
        self._kept.close()

    def time_left(self) -> float | None:
        """Return in how many seconds `step` has something to do; ``None``: not before something happens."""
        resume_at = self._pauses.next_deadline()
        instants = [*self._deadlines.values(), *([] if resume_at is None else [resume_at])]
        return max(0.0, min(instants) - time.monotonic()) if instants else None

    def step(self) -> None:
        """Close the connections that have said nothing for too long; look again after a pause."""
        now = time.monotonic()
        self._pauses.resume(now)
        for sock in [sock for sock, deadline in self._deadlines.items() if deadline <= now]:
            log.warning("a session cannot come back: it has said nothing for %g s", _SILENCE_SECONDS)
            self._forget(sock)
            sock.close()

    def _serve(self, listener: socket.socket) -> None:
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))

    def _forget(self, sock: socket.socket) -> None:
        del self._deadlines[sock]
        self._selector.unregister(sock)

    def _accept(self, listener: socket.socket) -> None:
        sock = self._pauses.accept(listener, "sessions that come back")
        if sock is None:
            return
        try:
            check_account(sock)
        except AuthenticationError as error:
            log.warning("a session cannot come back: %s", error)
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
                "a session cannot come back: its words or descriptors make no sense, or there is no room for these"
            )
            for end in ends:
                os.close(end)
            sock.close()
            return
        self._take_back(sock, facts, ends[0], ends[1:])


def _read(data: bytes, sock: socket.socket) -> Returned | None:
    """Return what a node says of itself, ``None`` if it makes no sense or is another process."""
    try:
        words = json.loads(data)["back"]
        facts = Returned(
            pid=int(words["pid"]),
            user=str(words["user"]),
            network=bytes.fromhex(words["network"]).hex(),
            key=bytes.fromhex(words["key"]),
            salt=bytes.fromhex(words["salt"]),
            node=int(words["node"]),
            peer=str(Source.read(words["peer"])),  # nothing else may stand in a line of the log
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

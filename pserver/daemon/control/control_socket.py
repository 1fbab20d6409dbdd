"""The control socket of the daemon, for requests from processes of this account and of root.

A connection carries one request and one answer, see `pserver.ctl.asking`. The daemon never waits for it: it closes
connections that have not sent their request or not read the answer within some seconds, and the oldest of too many.
"""

import contextlib
import json
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pconnect.link.local_link import peer_pid, peer_user
from pserver.ctl.asking import MAX_REQUEST_BYTES
from pserver.daemon.callback_selector import Pauses
from pserver.system.descriptors import json_object
from pserver.system.kept_socket import KeptSocket
from srp_tools.errors import ParallelError

log = logging.getLogger("pserver")

_PATIENCE = 5.0  # seconds for request and answer
_MOST_PEERS = 16


class Asker(NamedTuple):
    """The sender of a request, as named in the log."""

    peer: str  #: its address or process
    user: str

    def __str__(self) -> str:
        return f"{self.user} from {self.peer}"


Answer = Callable[[Mapping[str, Any], Asker], Mapping[str, object]]


@dataclass(eq=False)
class _Peer:
    sock: socket.socket
    deadline: float
    asker: Asker
    received: bytearray = field(default_factory=bytearray)
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))


class ControlSocket:
    """The socket for requests.

    `selector`: the daemon's; each entry's data is a function to call. `answer`: returns the facts of the answer to a
    request, or raises a `ParallelError` or an `OSError` with the reason.
    """

    def __init__(self, path: Path, selector: selectors.BaseSelector, answer: Answer) -> None:
        self._selector = selector
        self._answer = answer
        self._peers: dict[_Peer, None] = {}  # in the order of their deadlines
        self._pauses = Pauses(selector)
        self._kept = KeptSocket(
            path, socket.SOCK_STREAM, self._serve, self._pauses.unregister, "pserver ctl will not work"
        )
        #: Creates the socket again if its path was removed.
        self.look_after_path = self._kept.keep
        self.look_after_path()

    def close(self) -> None:
        """Stop accepting requests."""
        for peer in list(self._peers):
            self._drop(peer)
        self._kept.close()

    def time_left(self) -> float | None:
        """Return the seconds until `step` has something to do; ``None``: not before an event."""
        resume_at = self._pauses.next_deadline()
        first = next((peer.deadline for peer in self._peers), None)
        instants = [instant for instant in (resume_at, first) if instant is not None]
        return max(0.0, min(instants) - time.monotonic()) if instants else None

    def step(self) -> None:
        """Close connections whose time is up; end pauses that are over."""
        now = time.monotonic()
        self._pauses.resume(now)
        for peer in [peer for peer in self._peers if peer.deadline <= now]:
            self._drop(peer)

    def _serve(self, listener: socket.socket) -> None:
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        sock = self._pauses.accept(listener, "requests on the control socket")
        if sock is None:
            return
        user = peer_user(sock)
        if user not in {0, os.geteuid()}:
            log.warning(
                "refused a request on the control socket: it comes from another account (uid %d)", user
            )
            sock.close()
            return
        if len(self._peers) >= _MOST_PEERS:
            self._drop(next(iter(self._peers)))
        sock.setblocking(False)
        asker = Asker(f"this machine process {peer_pid(sock)}", f"uid {user}")
        peer = _Peer(sock, time.monotonic() + _PATIENCE, asker)
        self._peers[peer] = None
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._hear(peer))

    def _drop(self, peer: _Peer) -> None:
        del self._peers[peer]
        self._selector.unregister(peer.sock)
        peer.sock.close()

    def _hear(self, peer: _Peer) -> None:
        try:
            data = peer.sock.recv(MAX_REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return
        peer.received += data
        line, end, _ = peer.received.partition(b"\n")
        if end and len(line) < MAX_REQUEST_BYTES:
            self._reply(peer, answered(json_object(bytes(line)), peer.asker, self._answer))
        elif len(peer.received) >= MAX_REQUEST_BYTES:
            self._reply(
                peer,
                {"error": f"a request may have at most {MAX_REQUEST_BYTES} bytes, including its newline"},
            )

    def _reply(self, peer: _Peer, answer: Mapping[str, object]) -> None:
        peer.unsent = memoryview(json.dumps(answer).encode() + b"\n")
        self._selector.modify(peer.sock, selectors.EVENT_WRITE, lambda: self._send(peer))
        self._send(peer)

    def _send(self, peer: _Peer) -> None:
        try:
            peer.unsent = peer.unsent[peer.sock.send(peer.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            peer.unsent = memoryview(b"")
        if not peer.unsent:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_WR)
            self._drop(peer)


def answered(request: Mapping[str, Any], asker: Asker, answer: Answer) -> dict[str, object]:
    """Return the message that answers a request."""
    try:
        return {"ok": dict(answer(request, asker))}
    except (ParallelError, OSError) as error:
        return {"error": str(error)}

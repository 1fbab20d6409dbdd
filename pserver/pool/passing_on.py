"""A session's part of a pool: it forwards the daemon's list of members to the client.

The daemon sends the list as a file in memory, on the socket that came with the request: the list may be long, and the
daemon never waits for a peer.
"""

import os
import socket
from typing import Protocol

from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pserver.system.descriptors import json_object, receive_descriptors

_MAX_BYTES = 2**23


class Asks(Protocol):
    """An object that sends requests to the daemon, see `pserver.session.slot_client`."""

    def ask_members(self, end: socket.socket) -> None:
        """Have the daemon send its members to this end of a socket."""


def ask_daemon(number: int, command: Connection, daemon: Asks, event_loop: EventLoop) -> None:
    """Ask the daemon for its members, and forward them to the client on its command channel when they arrive.

    `number`: the number of the client's request. If there is no daemon, or it ends, the list is empty.
    """
    sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)

    def hear() -> None:
        event_loop.unwatch(sock.fileno())
        with sock:
            told = _receive(sock)
        command.post(Kind.NEIGHBOURS, number, told or {"id": "", "members": []})
        event_loop.flush(command)

    event_loop.watch(sock.fileno(), hear)
    with theirs:
        daemon.ask_members(theirs)


def _receive(sock: socket.socket) -> dict[str, object]:
    try:
        _, ends = receive_descriptors(sock, 100, 1)
    except OSError:
        return {}
    if not ends:
        return {}
    try:
        return json_object(os.pread(ends[0], _MAX_BYTES, 0))
    finally:
        os.close(ends[0])

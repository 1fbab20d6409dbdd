"""Descriptors of all kinds, for messages that should carry other ones or none."""

import contextlib
import os
import random
import select
import socket
import subprocess


def _end(one: socket.socket | select.epoll) -> None:
    """Shut the socket down in all processes. Otherwise, processes with one end each would keep each other alive."""
    if isinstance(one, socket.socket):
        with contextlib.suppress(OSError):  # the socket was never connected
            one.shutdown(socket.SHUT_RDWR)
    one.close()


class OddDescriptors:
    """Sockets with and without a peer, files, processes and other descriptors; they close with the stack."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        process = subprocess.Popen(["/bin/sleep", "1000"])
        stack.callback(process.wait)
        stack.callback(process.kill)
        lonely, its_peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        its_peer.close()
        with os.fdopen(os.open(os.devnull, os.O_RDWR), "rb") as null:
            plain = [
                os.dup(null.fileno()),
                os.open("/", os.O_RDONLY | os.O_DIRECTORY),
                os.memfd_create("odd"),
                os.eventfd(1),
                os.pidfd_open(process.pid),
                *os.pipe(),
            ]
        for descriptor in plain:
            stack.callback(os.close, descriptor)
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
        #: The socket that a session gives to the daemon for forwarded connections.
        self.handovers = [theirs.fileno() for _, theirs in pairs]
        made: list[socket.socket | select.epoll] = [
            lonely,
            *(end for pair in pairs for end in pair),
            *socket.socketpair(),
            socket.create_server(("127.0.0.1", 0)),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            select.epoll(),
        ]
        for one in made:
            stack.callback(_end, one)
        self._all = [*plain, *(one.fileno() for one in made)]

    def some(self, chance: random.Random, count: int) -> list[int]:
        """Return `count` of them; they remain open here."""
        return [chance.choice(self._all) for _ in range(count)]

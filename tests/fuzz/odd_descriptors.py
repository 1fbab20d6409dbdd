"""Descriptors of all kinds, for words that should come with others or with none."""

import contextlib
import os
import random
import select
import socket
import subprocess


def _end(one: socket.socket | select.epoll) -> None:
    """Close it. Processes that were given one end each would else keep each other alive: all copies end here."""
    if isinstance(one, socket.socket):
        with contextlib.suppress(OSError):  # it was never connected
            one.shutdown(socket.SHUT_RDWR)
    one.close()


class OddDescriptors:
    """Sockets with and without another end, files, processes and what else there is; they end with the stack."""

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
        #: What a session gives the daemon to pass connections on.
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
        """Return so many of them; they stay ours."""
        return [chance.choice(self._all) for _ in range(count)]

"""Messages between two processes of this machine that may be too long for their socket: those go in a memory file.

A socket that keeps messages apart takes only what fits into its buffer. A longer message is written to memory without
a name, whose descriptor is sent in its place.
"""

import errno
import fcntl
import os
import socket
import struct
import termios

from pserver.system.descriptors import receive_descriptors

_SHORT_BYTES = 2**15  # the system takes several times as many
_MAX_BYTES = 2**24
# Of what the other end has not read, as the system counts them: a short message, and some dozens of memory files. Else
# one that reads nothing could have hundreds kept.
_MOST_UNREAD = 40_000
_IN_MEMORY = b"in memory"


def send_long(sock: socket.socket, data: bytes) -> None:
    """Send a message of any length; raise `OSError` if the socket takes none, or there is no room for a descriptor."""
    if len(data) <= _SHORT_BYTES:
        sock.send(data)
        return
    if _unread(sock) > _MOST_UNREAD:
        raise BlockingIOError(errno.EAGAIN, "the other end does not read")
    memory = os.memfd_create("pserver-message", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(data)
        socket.send_fds(sock, [_IN_MEMORY], [memory])
    finally:
        os.close(memory)


def _unread(sock: socket.socket) -> int:
    """Return how many bytes the other end has not read, with what the system needs for each message (unix(7))."""
    count: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
    return count


def receive_long(sock: socket.socket) -> bytes:
    """Return a message that `send_long` has sent; no bytes: the other end is closed.

    Raises `BlockingIOError` if nothing is there, `pserver.system.descriptors.NoRoomError` if this process has no room
    for the descriptor of a long one, which is lost then, and `OSError` if it is longer than any message is.
    """
    data, descriptors = receive_descriptors(sock, 2 * _SHORT_BYTES, 1)
    if not descriptors:
        return data
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)  # the position is one for both ends
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise OSError(f"a message has more than {_MAX_BYTES} bytes")
    return content

"""Messages between two local processes that may be too long for their socket: long ones travel in a memory file.

A socket that preserves message boundaries accepts only messages that fit into its buffer. A longer message is written
to an anonymous file, and the socket carries its descriptor instead.
"""

import errno
import fcntl
import os
import socket
import struct
import termios

from pserver.system.descriptors import receive_descriptors

_SHORT_BYTES = 2**15  # Linux accepts several times as many
_MAX_BYTES = 2**24
# Limit of unread bytes, as the system counts them: one short message and a few dozen memory files. Without it, a peer
# that never reads could make this process keep hundreds of files.
_MOST_UNREAD = 40_000
_IN_MEMORY = b"in memory"


def send_long(sock: socket.socket, data: bytes) -> None:
    """Send a message of any length; raise `OSError` if the socket or the descriptor table is full."""
    if len(data) <= _SHORT_BYTES:
        sock.send(data)
        return
    if _unread(sock) > _MOST_UNREAD:
        raise BlockingIOError(errno.EAGAIN, "the other end is not reading")
    memory = os.memfd_create("pserver-message", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(data)
        socket.send_fds(sock, [_IN_MEMORY], [memory])
    finally:
        os.close(memory)


def _unread(sock: socket.socket) -> int:
    """Return the number of bytes that the other end has not read, including the overhead of each message (unix(7))."""
    count: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
    return count


def receive_long(sock: socket.socket) -> bytes:
    """Receive a message from `send_long`; return no bytes if the other end is closed.

    Raises `BlockingIOError` if no message is waiting, `pserver.system.descriptors.NoRoomError` if this process cannot
    take the descriptor of a long message, which is then lost, and `OSError` if the message exceeds the size limit.
    """
    data, descriptors = receive_descriptors(sock, 2 * _SHORT_BYTES, 1)
    if not descriptors:
        return data
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)  # both ends share one file position
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise OSError(f"message of more than {_MAX_BYTES} bytes")
    return content

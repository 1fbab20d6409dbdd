"""Receiving descriptors from another process of this machine."""

import errno
import os
import socket


def receive_descriptors(sock: socket.socket, max_bytes: int, most: int) -> tuple[bytes, list[int]]:
    """Return a message and the descriptors that came with it; no message means that the other end is closed.

    Raises `BlockingIOError` if nothing is there. Raises another `OSError` if this process has no room for all of the
    descriptors, which the system says by cutting them off: the message is lost, and none of them is open. What is
    sent without descriptors arrives in any case.
    """
    data, descriptors, flags, _ = socket.recv_fds(sock, max_bytes, most, socket.MSG_CMSG_CLOEXEC)
    if flags & socket.MSG_CTRUNC:
        for descriptor in descriptors:
            os.close(descriptor)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return data, descriptors

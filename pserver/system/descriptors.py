"""Receiving descriptors from another process of this machine, and looking at what they are."""

import errno
import os
import signal
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


def is_process(descriptor: int) -> bool:
    """Tell whether a descriptor stands for a process: others could be made readable by whoever sent them."""
    try:
        signal.pidfd_send_signal(descriptor, 0)
    except (ProcessLookupError, PermissionError):  # it has ended already, or has become another user's
        return True
    except OSError:
        return False
    return True


def takes_messages(descriptor: int) -> bool:
    """Tell whether a descriptor is a Unix socket that keeps messages apart, with room for descriptors in them."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return False
    kind = (sock.family, sock.type)
    sock.detach()
    return kind == (socket.AF_UNIX, socket.SOCK_SEQPACKET)

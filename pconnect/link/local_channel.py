"""The byte stream of a local link: a Unix socket that can send from warm memory.

The kernel allocates new pages for data that is sent and not yet read. The receiver's processor keeps the pages that it
frees, up to a gigabyte, before the sender's processor gets any back. So a large transfer passes through pages that
nobody has used for a long time. On a virtual machine whose host reclaims unused memory, these pages can cost ten times
the copy (doc/decisions/0016-warm-memory.md).

If sending is that slow, this module first copies the data into a *ring* in its own memory, and `sendfile` makes the
kernel send it from there, without allocating pages. The receiver sees no difference.

When may the ring be overwritten? A Unix socket counts the bytes that were sent and not yet read (SIOCOUTQ): all bytes
before them have been read. While there is no free space in the ring, data is sent the usual way.
"""

import mmap
import os
import socket
import struct
import sys
import time
from typing import Final

from srp_tools.channel import Channel

if sys.platform == "linux":  # other systems have no local links
    import fcntl

#: Room for data that is sent and not yet read. Linux doubles it for its own needs, and may allow less.
SEND_BUFFER_BYTES: Final = 2**18
_RING_BYTES: Final = 2**20
# Bytes that are written to the ring, and sent, in one step.
_CHUNK_BYTES: Final = 2**17
# Processor time, which excludes other work. The usual time is a fifth of this.
_SLOW_SECONDS_PER_BYTE: Final = 1e-9
# For smaller writes, other work of the processor distorts the measurement.
_MEASURED_BYTES: Final = 2**16
# Bytes sent from the ring before the kernel's own memory is tried again.
_RING_PERIOD_BYTES: Final = 2**26
# Maximum number of rings in one process; all other links send the usual way.
_MAX_RINGS: Final = 16
_SIOCOUTQ: Final = 0x5411  # linux/sockios.h
_UNREAD: Final = struct.Struct("i")


class LocalChannel(Channel):
    """A byte stream to a process of the same account and machine.

    `sock`: a connected, non-blocking Unix socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._large_writer = LargeWriter(sock)
        self._write_large = self._large_writer.write

    def abandon(self) -> None:
        """Close the descriptors without notifying the peer."""
        super().abandon()
        self._large_writer.close()

    def close(self) -> None:
        """Close the connection. The operating system still sends buffered data. A second call does nothing."""
        super().close()
        self._large_writer.close()


class LargeWriter:
    """Sends the large data of a local link."""

    def __init__(self, sock: socket.socket) -> None:
        self.ring_bytes = 0  #: number of bytes sent from rings
        self._sock = sock
        self._ring: _Ring | None = None
        self._ring_until = 0  # value of `ring_bytes` at which the current ring is given up
        self._may_have_ring = True

    def write(self, data: memoryview) -> int:
        """Send as much data as possible without blocking, and return the number of bytes. Raises like `socket.send`."""
        if self._ring is not None:
            return self._write_from(self._ring, data)
        begin = time.thread_time()
        sent = self._sock.send(data)
        if sent >= _MEASURED_BYTES and time.thread_time() - begin > sent * _SLOW_SECONDS_PER_BYTE:
            self._begin_ring()
        return sent

    def _begin_ring(self) -> None:
        if not self._may_have_ring or _Ring.count >= _MAX_RINGS:
            return
        try:
            self._ring = _Ring()
        except OSError:  # the system does not support it
            self._may_have_ring = False
        self._ring_until = self.ring_bytes + _RING_PERIOD_BYTES

    def _write_from(self, ring: "_Ring", data: memoryview) -> int:
        begin = self.ring_bytes % _RING_BYTES
        count = min(len(data), _CHUNK_BYTES, _RING_BYTES - begin)
        try:
            if count > _RING_BYTES - self._unread_bytes():
                return self._sock.send(data)
            ring.memory[begin : begin + count] = data[:count]
            sent = os.sendfile(self._sock.fileno(), ring.file, begin, count)
        except BlockingIOError:
            raise
        except OSError:  # the system does not support it, or the link is broken; then `send` raises the error
            self.close()
            return self._sock.send(data)
        self.ring_bytes += sent
        if self.ring_bytes >= self._ring_until:
            self._end_ring()
        return sent

    def _unread_bytes(self) -> int:
        (count,) = _UNREAD.unpack(fcntl.ioctl(self._sock, _SIOCOUTQ, bytes(_UNREAD.size)))
        return int(count)

    def _end_ring(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def close(self) -> None:
        """Stop using a ring. Data that was sent from it remains readable."""
        self._may_have_ring = False
        self._end_ring()


class _Ring:
    """Memory from which the kernel can send. `count`: number of rings in this process. Raises `OSError` on failure."""

    count = 0

    def __init__(self) -> None:
        self.file = os.memfd_create("pconnect-ring")
        try:
            os.ftruncate(self.file, _RING_BYTES)
            # Map all pages immediately, to avoid a page fault for each.
            self.memory = memoryview(mmap.mmap(self.file, _RING_BYTES, mmap.MAP_SHARED | mmap.MAP_POPULATE))
        except OSError:
            os.close(self.file)
            raise
        _Ring.count += 1

    def close(self) -> None:
        """Free the memory, except for data that has not been read yet."""
        _Ring.count -= 1
        self.memory = memoryview(b"")
        os.close(self.file)

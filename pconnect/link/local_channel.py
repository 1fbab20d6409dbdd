"""The byte stream of a local link: a Unix socket, which can be sent to from memory that is warm.

The kernel takes new pages for what is sent and not yet read. The processor of the receiver keeps those that it frees:
up to a gigabyte, before that of the sender gets one back. So a large transfer passes through pages that nobody has used
for long. On a virtual machine whose host takes back unused memory, they can cost ten times the copy
(doc/decisions/0016-warm-memory.md).

Where sending turns out to be so slow, data is copied into a *ring* of our own memory first, and `sendfile` has the
kernel send it from there, without pages of its own. The receiver sees no difference.

When may the memory of the ring be written again? A Unix socket counts what was sent and not read yet (SIOCOUTQ): all
but the last so many bytes have been read. While that leaves no room in the ring, data is sent the usual way.
"""

import mmap
import os
import socket
import struct
import sys
import time
from typing import Final

from srp_tools.channel import Channel

if sys.platform == "linux":  # else there are no local links
    import fcntl

#: Room for what is sent and not yet read. Linux doubles it, for what it needs itself, and may allow less.
SEND_BUFFER_BYTES: Final = 2**18
_RING_BYTES: Final = 2**20
# So much is written to the ring, and sent, at once.
_CHUNK_BYTES: Final = 2**17
# Of processor time, in which other work has no part. The usual is a fifth of this.
_SLOW_SECONDS_PER_BYTE: Final = 1e-9
# In less, what else the processor does counts too much.
_MEASURED_BYTES: Final = 2**16
# So much is sent from the ring before the kernel's own memory is tried again.
_RING_PERIOD_BYTES: Final = 2**26
# In one process; all other links send the usual way.
_MAX_RINGS: Final = 16
_SIOCOUTQ: Final = 0x5411  # linux/sockios.h
_UNREAD: Final = struct.Struct("i")


class LocalChannel(Channel):
    """A byte stream to a process of this account and machine.

    `sock`: a Unix socket, connected and non-blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._large_writer = LargeWriter(sock)
        self._write_large = self._large_writer.write

    def abandon(self) -> None:
        """Close the descriptors and say nothing to the peer."""
        super().abandon()
        self._large_writer.close()

    def close(self) -> None:
        """Close the connection; what is not yet sent by the system is still sent. A second call does nothing."""
        super().close()
        self._large_writer.close()


class LargeWriter:
    """What a local link sends large data with."""

    def __init__(self, sock: socket.socket) -> None:
        self.ring_bytes = 0  #: how much was sent from rings
        self._sock = sock
        self._ring: _Ring | None = None
        self._ring_until = 0  # so much in all is sent from rings
        self._may_have_ring = True

    def write(self, data: memoryview) -> int:
        """Send what can be sent now of some data, or some of it, and return how much; raises as a socket's `send`."""
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
        except OSError:  # the system has no such memory
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
        except OSError:  # the system cannot do it, or the link is broken, as `send` will say
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
        """Use no ring any more; what was sent from one stays readable."""
        self._may_have_ring = False
        self._end_ring()


class _Ring:
    """Memory that the kernel can send from; `count` are there in this process. Raises `OSError` if none can be made."""

    count = 0

    def __init__(self) -> None:
        self.file = os.memfd_create("pconnect-ring")
        try:
            os.ftruncate(self.file, _RING_BYTES)
            # All pages at once, without a fault for each.
            self.memory = memoryview(mmap.mmap(self.file, _RING_BYTES, mmap.MAP_SHARED | mmap.MAP_POPULATE))
        except OSError:
            os.close(self.file)
            raise
        _Ring.count += 1

    def close(self) -> None:
        """Give the memory back, apart from what is still to be read."""
        _Ring.count -= 1
        self.memory = memoryview(b"")
        os.close(self.file)

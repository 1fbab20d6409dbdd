"""A non-blocking byte stream, encrypted with TLS 1.3 (OpenSSL) or, if the user chooses, unencrypted.

One class handles both. Reads and writes never block: a call that cannot make progress reports it, and the caller waits
for the socket together with its other sockets.

TLS has two pitfalls. OpenSSL may hold decrypted bytes that a poll of the socket does not show; `pending` returns their
number. And an unfinished write must be repeated with the same bytes, because OpenSSL has already encrypted a record of
them. The bytes may be at another address: Python sets ``SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER``.
"""

import contextlib
import errno
import math
import os
import selectors
import socket
import ssl
import sys
from collections.abc import Callable

from srp_tools.errors import ConnectionLostError
from srp_tools.steps import Steps, Wait

Buffer = bytes | bytearray | memoryview

_RECORD_BYTES = 2**14  # the longest TLS record (RFC 8446, section 5.1); OpenSSL fills its records
_LARGE_BYTES = 2**17
# Fields of struct tcp_info in linux/tcp.h: the state, and the milliseconds since the last acknowledgement.
_STATE, _LAST_ACK = slice(0, 1), slice(56, 60)
_TCP_CLOSE = 7  # tcp_states.h
# Errors of the operating system for a machine that does not answer: a timeout, or a report from a router or this host.
_UNANSWERED = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN}
_PERHAPS = "the peer's process has ended, or a device on the network cut the connection"
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Channel:
    """An ordered byte stream to one peer.

    `sock`: a connected, non-blocking socket: an `ssl.SSLSocket` after its handshake, or a plain socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        #: Whether another node forwards the bytes. It cannot read them if they are encrypted.
        self.is_relayed = False
        self._is_tcp = hasattr(socket, "TCP_INFO") and sock.family in (socket.AF_INET, socket.AF_INET6)
        self._write: Callable[[memoryview], int] = self._tls.write if self._tls else sock.send
        # A subclass may have a faster way to write large data.
        self._write_large: Callable[[memoryview], int] = self._write

    @property
    def encrypted(self) -> bool:
        """Whether the stream is encrypted."""
        return self._tls is not None

    @property
    def transport(self) -> str:
        """``tls``, ``unix`` (a Unix socket to a process on this machine), ``relay`` or ``plain``."""
        if self.is_relayed:
            return "relay"
        if self._tls is not None:
            return "tls"
        return "unix" if self._sock.family == getattr(socket, "AF_UNIX", None) else "plain"

    @property
    def unanswered_retransmits(self) -> int:
        """Number of TCP retransmits or window probes since the peer's machine last answered.

        0 if the operating system does not report it, and on a link that is not TCP.
        """
        if not self._is_tcp:
            return 0
        # Bytes 2 and 3 of struct tcp_info in linux/tcp.h: retransmits and probes.
        state = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
        return max(state[2], state[3])

    @property
    def peer_timeout(self) -> float:
        """Seconds without an answer after which the peer's machine counts as gone, from the keep-alive settings."""
        if not self._is_tcp:
            return math.inf
        interval = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        return float(interval * (self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) + 1))

    @property
    def silent_seconds(self) -> float | None:
        """Seconds since the peer's machine last answered; ``None`` if the operating system does not report it."""
        if not self._is_tcp:
            return None
        return int.from_bytes(self._tcp_info(_LAST_ACK), sys.byteorder) / 1000

    def _lost(self, error: OSError) -> ConnectionLostError:
        if self.transport == "unix" and isinstance(error, ConnectionError):
            return peer_closed()  # it closed with unread data in its buffer
        if isinstance(error, ssl.SSLEOFError) and self._is_tcp and self._tcp_info(_STATE)[0] == _TCP_CLOSE:
            # Python reports every system error in a read as an end of file, since OpenSSL returns 0 for both. After
            # a real end of file, the TCP state would not be CLOSE. A live machine answers every keep-alive probe.
            is_silent = (self.silent_seconds or 0) >= self.peer_timeout / 2
            error = TimeoutError() if is_silent else ConnectionResetError()
        return connection_lost(error, self.silent_seconds)

    def _tcp_info(self, part: slice) -> bytes:
        return self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, part.stop)[part]

    def fileno(self) -> int:
        """Return the file descriptor to poll, or -1 when closed."""
        return self._sock.fileno()

    def send(self, data: Buffer) -> int:
        """Write as much as possible without blocking, and return the number of bytes written, possibly 0.

        Raises `ConnectionLostError` if the peer is gone.
        """
        view = memoryview(data)
        total, size = 0, len(view)
        # A write may accept only one TLS record. This loop, like the one in `receive_into`, is critical for speed.
        try:
            write = self._write if size < _LARGE_BYTES else self._write_large
            while total < size:
                total += write(view[total:] if total else view)
        except _NOT_NOW:
            pass
        except OSError as error:
            if not total:
                raise self._lost(error) from error
        return total

    def receive_into(self, buffer: memoryview) -> int | None:
        """Read the available bytes into `buffer`. Return their number, 0 at the end, or ``None`` if there are none yet.

        Raises `ConnectionLostError` if the connection broke, or if the peer sent data that cannot be decrypted.
        """
        total, size = 0, len(buffer)
        try:
            if self._tls is None:
                return self._sock.recv_into(buffer)
            while True:
                # SSLSocket.read is recv_into without its checks; both return 0 at the end of the stream.
                count: int = self._tls.read(size - total, buffer[total:] if total else buffer)  # type: ignore[assignment]
                total += count
                if count < _RECORD_BYTES or total == size:
                    return (
                        total  # probably no more bytes are waiting, and another read would cost an exception
                    )
        except _NOT_NOW:
            return total or None
        except OSError as error:
            if not total:
                raise self._lost(error) from error
            return total

    def pending(self) -> int:
        """Return the number of bytes that can be read although a poll of the descriptor may not show them."""
        return self._tls.pending() if self._tls else 0

    def receive_exactly(self, count: int) -> Steps[bytes]:
        """Read exactly `count` bytes. Used during the handshake.

        Raises `ConnectionLostError` if the connection ends earlier.
        """
        data = bytearray(count)
        view = memoryview(data)
        while view:
            received = self.receive_into(view)
            if received is None:
                yield Wait(self.fileno())
            elif received == 0:
                raise peer_closed()
            else:
                view = view[received:]
        return bytes(data)

    def send_all(self, data: Buffer) -> Steps[None]:
        """Write all of `data`. Used during the handshake."""
        view = memoryview(data)
        while view:
            sent = self.send(view)
            if not sent:
                yield Wait(self.fileno(), selectors.EVENT_WRITE)
            view = view[sent:]

    def detach(self) -> socket.socket:
        """Return the socket and give up its ownership. Works only without encryption."""
        if self._tls is not None:
            raise ValueError("an encrypted channel cannot hand over its socket")
        family, kind = self._sock.family, self._sock.type
        sock = socket.socket(family, kind, fileno=self._sock.detach())
        sock.setblocking(False)  # applies to duplicates of the descriptor as well
        return sock

    def abandon(self) -> None:
        """Close the descriptor without notifying the peer. For a forked process that does not use the connection."""
        descriptor = self._sock.detach()
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Close the connection. The operating system still sends buffered data. A second call does nothing."""
        if self._tls and self._tls.fileno() >= 0:
            # Send our close_notify, but do not wait for the peer's: messages mark the end of the stream.
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()
        self._sock.close()


def peer_closed() -> ConnectionLostError:
    """Return the error for an orderly end of the stream. The cause is unknown: a dying process also closes it."""
    return ConnectionLostError("the peer closed the connection")


def connection_lost(error: OSError, silent_seconds: float | None = None) -> ConnectionLostError:
    """Return our error for an error of the system or OpenSSL. It describes the symptom: the cause is unknown."""
    if isinstance(error, ssl.SSLEOFError):
        # Our processes always close TLS before TCP unless they die.
        return ConnectionLostError(f"the connection was cut off: {_PERHAPS}")
    if isinstance(error, ConnectionResetError):
        return ConnectionLostError(f"the connection was reset: {_PERHAPS}")
    if isinstance(error, BrokenPipeError):
        return ConnectionLostError("the other end closed the connection before all data was sent")
    if isinstance(error, TimeoutError) or error.errno in _UNANSWERED:
        return no_answer(silent_seconds, "" if isinstance(error, TimeoutError) else error.strerror or "")
    return ConnectionLostError(f"the connection broke: {error.strerror or error}")


def no_answer(seconds: float | None, reason: str = "") -> ConnectionLostError:
    """Return the error for a machine that does not answer. `reason` is the operating system's text."""
    time = "" if seconds is None else f" for {seconds:.0f} s"
    return ConnectionLostError(f"no answer from the peer's machine{time}{f' ({reason})' if reason else ''}")

"""A non-blocking byte stream, encrypted with TLS 1.3 (OpenSSL) or, by the user's choice, plain.

One class serves both. Reading and writing never block; a call that cannot go on says so, and the caller waits
for the socket with whatever else it waits for.

TLS needs two things to be kept in mind. OpenSSL may hold decrypted bytes that no poll of the socket shows: `pending`
tells. And a write that could not be finished must be repeated with the same bytes: OpenSSL has encrypted a record of
them already (the memory may be another, Python sets ``SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER``).
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

_RECORD_BYTES = 2**14  # of TLS (RFC 8446, section 5.1); OpenSSL fills them
_LARGE_BYTES = 2**17
# In struct tcp_info of linux/tcp.h: the state, and how many milliseconds ago the last acknowledgement came.
_STATE, _LAST_ACK = slice(0, 1), slice(56, 60)
_TCP_CLOSE = 7  # tcp_states.h
# What the system says when a machine does not answer: nothing but that, or what a router or this machine knows of it.
_UNANSWERED = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN}
_PERHAPS = "the peer's process has ended, or something on the way did it"
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Channel:
    """An ordered byte stream to one peer.

    `sock`: connected, non-blocking; a `ssl.SSLSocket` whose handshake is done, or a plain socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self.is_relayed = (
            False  #: whether another node passes on all of it, which cannot read it if it is encrypted
        )
        self._is_tcp = hasattr(socket, "TCP_INFO") and sock.family in (socket.AF_INET, socket.AF_INET6)
        self._write: Callable[[memoryview], int] = self._tls.write if self._tls else sock.send
        # A subclass may know a faster way for what is large.
        self._write_large: Callable[[memoryview], int] = self._write

    @property
    def encrypted(self) -> bool:
        """Whether what passes here is encrypted."""
        return self._tls is not None

    @property
    def transport(self) -> str:
        """``tls``; ``unix`` for a Unix socket, which leads to a process of this machine; ``relay``; or ``plain``."""
        if self.is_relayed:
            return "relay"
        if self._tls is not None:
            return "tls"
        return "unix" if self._sock.family == getattr(socket, "AF_UNIX", None) else "plain"

    @property
    def unanswered_retransmits(self) -> int:
        """How often the system has repeated data, or a question for room, since the peer's machine last answered.

        0 where the system does not tell, and on a link that is not TCP.
        """
        if not self._is_tcp:
            return 0
        # Offsets 2 and 3 in struct tcp_info of linux/tcp.h: retransmits and probes.
        state = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
        return max(state[2], state[3])

    @property
    def peer_timeout(self) -> float:
        """Seconds after which the peer's machine counts as gone if it does not answer: those of keep-alive."""
        if not self._is_tcp:
            return math.inf
        interval = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        return float(interval * (self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) + 1))

    @property
    def silent_seconds(self) -> float | None:
        """Seconds since the peer's machine last answered; ``None`` where the system does not tell."""
        if not self._is_tcp:
            return None
        return int.from_bytes(self._tcp_info(_LAST_ACK), sys.byteorder) / 1000

    def _lost(self, error: OSError) -> ConnectionLostError:
        if self.transport == "unix" and isinstance(error, ConnectionError):
            return peer_closed()  # with data that it had not read
        if isinstance(error, ssl.SSLEOFError) and self._is_tcp and self._tcp_info(_STATE)[0] == _TCP_CLOSE:
            # Python takes each error of the system in a read for an end: OpenSSL returns 0 for both. After
            # a real end the state would be another. A machine that lives answers each question of keep-alive.
            is_silent = (self.silent_seconds or 0) >= self.peer_timeout / 2
            error = TimeoutError() if is_silent else ConnectionResetError()
        return connection_lost(error, self.silent_seconds)

    def _tcp_info(self, part: slice) -> bytes:
        return self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, part.stop)[part]

    def fileno(self) -> int:
        """Return the file descriptor to poll, or -1 when closed."""
        return self._sock.fileno()

    def send(self, data: Buffer) -> int:
        """Write what can be written now and return the number of bytes, 0 if none.

        Raises `ConnectionLostError` if the peer is gone.
        """
        view = memoryview(data)
        total, size = 0, len(view)
        # One write takes as little as one TLS record: this is the inner loop of every transfer, as is the one below.
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
        """Read what has arrived into `buffer`; return the number of bytes, 0 at the end, ``None`` if none yet.

        Raises `ConnectionLostError` if the connection broke, or the peer sent what does not decrypt.
        """
        total, size = 0, len(buffer)
        try:
            if self._tls is None:
                return self._sock.recv_into(buffer)
            while True:
                # SSLSocket.read is recv_into without a layer of checks; both return 0 at the end of the stream.
                count: int = self._tls.read(size - total, buffer[total:] if total else buffer)  # type: ignore[assignment]
                total += count
                if count < _RECORD_BYTES or total == size:
                    return total  # most likely nothing more is there; to ask would cost an exception
        except _NOT_NOW:
            return total or None
        except OSError as error:
            if not total:
                raise self._lost(error) from error
            return total

    def pending(self) -> int:
        """Return how many bytes can be read though a poll of the descriptor may not show it."""
        return self._tls.pending() if self._tls else 0

    def receive_exactly(self, count: int) -> Steps[bytes]:
        """Read exactly `count` bytes; for the first words of a connection.

        Raises `ConnectionLostError` if the connection ended before.
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
        """Write all of `data`; for the first words of a connection."""
        view = memoryview(data)
        while view:
            sent = self.send(view)
            if not sent:
                yield Wait(self.fileno(), selectors.EVENT_WRITE)
            view = view[sent:]

    def detach(self) -> socket.socket:
        """Return the socket, which is the caller's from now on. Without encryption only."""
        if self._tls is not None:
            raise ValueError("what is encrypted cannot be read by anyone else")
        family, kind = self._sock.family, self._sock.type
        sock = socket.socket(family, kind, fileno=self._sock.detach())
        sock.setblocking(False)  # also for its duplicates
        return sock

    def abandon(self) -> None:
        """Close the descriptor and say nothing to the peer; for a process that was forked and has no part in it."""
        descriptor = self._sock.detach()
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Close the connection; what is not yet sent by the system is still sent. A second call does nothing."""
        if self._tls and self._tls.fileno() >= 0:
            # Half of TLS's closing: our close_notify. We do not wait for the peer's; messages tell the end.
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()
        self._sock.close()


def peer_closed() -> ConnectionLostError:
    """Return our error for a stream that has ended in order; why, it does not say: a process that dies closes, too."""
    return ConnectionLostError("the peer closed the connection")


def connection_lost(error: OSError, silent_seconds: float | None = None) -> ConnectionLostError:
    """Return our error for one of the system or of OpenSSL; it says what was seen, which rarely is who did it."""
    if isinstance(error, ssl.SSLEOFError):
        # Each of our processes closes TLS before TCP, as long as it lives.
        return ConnectionLostError(f"the connection was cut off: {_PERHAPS}")
    if isinstance(error, ConnectionResetError):
        return ConnectionLostError(f"the connection was reset: {_PERHAPS}")
    if isinstance(error, BrokenPipeError):
        return ConnectionLostError("the connection was closed at the other end before all was sent")
    if isinstance(error, TimeoutError) or error.errno in _UNANSWERED:
        return no_answer(silent_seconds, "" if isinstance(error, TimeoutError) else error.strerror or "")
    return ConnectionLostError(f"the connection broke: {error.strerror or error}")


def no_answer(seconds: float | None, reason: str = "") -> ConnectionLostError:
    """Return the error for a machine that does not answer; `reason` is what the system says."""
    time = "" if seconds is None else f" for {seconds:.0f} s"
    return ConnectionLostError(f"no answer from the peer's machine{time}{f' ({reason})' if reason else ''}")

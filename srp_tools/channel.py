"""A non-blocking byte stream, encrypted with TLS 1.3 (OpenSSL) or, by the user's choice, plain.

One class serves both. Reading and writing never block; a call that cannot go on says so, and the caller waits
for the socket with whatever else it waits for.

TLS needs two things to be kept in mind. OpenSSL may hold decrypted bytes that no poll of the socket shows:
`pending` tells. And a write that could not be finished must be repeated with the same bytes: OpenSSL has
encrypted a record of them already (the memory may be another, Python sets
``SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER``).
"""

import contextlib
import math
import os
import selectors
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from srp_tools.certificates import Identity, node_uri
from srp_tools.errors import AuthenticationError, ConnectionLostError
from srp_tools.steps import Steps, Wait

Buffer = bytes | bytearray | memoryview

_RECORD_BYTES = 2**14  # of TLS (RFC 8446, section 5.1); OpenSSL fills them
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Channel:
    """An ordered byte stream to one peer.

    Parameters
    ----------
    sock
        Connected, non-blocking; a `ssl.SSLSocket` whose handshake is done, or a plain socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self._is_tcp = hasattr(socket, "TCP_INFO") and sock.family in (socket.AF_INET, socket.AF_INET6)
        self._write: Callable[[memoryview], int] = self._tls.write if self._tls else sock.send

    @property
    def encrypted(self) -> bool:
        """Whether what passes here is encrypted."""
        return self._tls is not None

    @property
    def sent_in_vain(self) -> int:
        """How often the system has repeated data, or a question for room, since the peer's machine last answered.

        0 where the system does not tell, and on the way to a process of this machine that is none of TCP.
        """
        if not self._is_tcp:
            return 0
        # Offsets 2 and 3 in struct tcp_info of linux/tcp.h: retransmits and probes.
        state = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
        return max(state[2], state[3])

    @property
    def patience(self) -> float:
        """Seconds after which the peer's machine counts as gone if it does not answer: those of keep-alive."""
        if not self._is_tcp:
            return math.inf
        interval = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        return float(interval * (self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) + 1))

    def fileno(self) -> int:
        """Return the file descriptor to poll, or -1 when closed."""
        return self._sock.fileno()

    def send(self, data: Buffer) -> int:
        """Write what can be written now and return the number of bytes, 0 if none.

        Raises
        ------
        ConnectionLostError
            The peer is gone.
        """
        view = memoryview(data)
        total, size = 0, len(view)
        # One write takes as little as one TLS record: this is the inner loop of every transfer, as is the one below.
        try:
            while total < size:
                total += self._write(view[total:] if total else view)
        except _NOT_NOW:
            pass
        except OSError as error:
            if not total:
                raise _lost(error) from error
        return total

    def receive_into(self, buffer: memoryview) -> int | None:
        """Read what has arrived into `buffer`; return the number of bytes, 0 at the end, ``None`` if none yet.

        Raises
        ------
        ConnectionLostError
            The connection broke, or the peer sent what does not decrypt.
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
                raise _lost(error) from error
            return total

    def pending(self) -> int:
        """Return how many bytes can be read though a poll of the descriptor may not show it."""
        return self._tls.pending() if self._tls else 0

    def receive_exactly(self, count: int) -> Steps[bytes]:
        """Read exactly `count` bytes; for the first words of a connection.

        Raises
        ------
        ConnectionLostError
            The connection ended before.
        """
        data = bytearray(count)
        view = memoryview(data)
        while view:
            received = self.receive_into(view)
            if received is None:
                yield Wait(self.fileno())
            elif received == 0:
                raise ConnectionLostError("the peer closed the connection")
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


def _lost(error: OSError) -> ConnectionLostError:
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        return ConnectionLostError("the peer closed the connection")
    if isinstance(error, TimeoutError):
        return ConnectionLostError("the peer's machine does not answer any more")
    return ConnectionLostError(f"the connection broke: {error.strerror or error}")


def tls_context(identity: Identity, *, server_side: bool) -> ssl.SSLContext:
    """Return a context that speaks TLS 1.3 as `identity` and accepts only nodes of its network."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # nodes are known by number, not by a host's name: see `check_peer`
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=identity.authority)
    if server_side:
        context.num_tickets = 0  # nobody resumes; a ticket would only be unread data in the peer's buffer
    certificate = ssl.DER_cert_to_PEM_cert(identity.certificate).encode()
    with file_of(certificate + identity.key_pem) as path:
        context.load_cert_chain(path)
    return context


def start_tls(
    sock: socket.socket, context: ssl.SSLContext, network_id: bytes, node: int, *, server_side: bool
) -> Steps[Channel]:
    """Begin TLS on a connected non-blocking socket, and check that the peer is a certain node of the network.

    Returns
    -------
    Channel
        It owns `sock`. In TLS 1.3 a client learns only with its first read that the server refused its
        certificate: the server should say a word before the client relies on the connection.

    Raises
    ------
    AuthenticationError
        The peer has no certificate of this network, or is another node.
    ConnectionLostError
        The peer closed the connection or does not speak TLS. In both cases the socket is closed.
    """
    wrapped = context.wrap_socket(
        sock, server_side=server_side, do_handshake_on_connect=False, suppress_ragged_eofs=False
    )
    try:
        while True:
            try:
                wrapped.do_handshake()
                break
            except ssl.SSLWantReadError:
                yield Wait(wrapped.fileno())
            except ssl.SSLWantWriteError:
                yield Wait(wrapped.fileno(), selectors.EVENT_WRITE)
        check_peer(wrapped, network_id, node)
    except ssl.SSLCertVerificationError as error:
        wrapped.close()
        raise AuthenticationError(f"the peer is not of this network: {error.verify_message}") from error
    except OSError as error:
        wrapped.close()
        if isinstance(error, AuthenticationError):
            raise
        raise _lost(error) from error
    except BaseException:
        wrapped.close()
        raise
    return Channel(wrapped)


def check_peer(sock: ssl.SSLSocket, network_id: bytes, node: int) -> None:
    """Check that the certificate of the peer names this network and this node.

    Raises
    ------
    AuthenticationError
        It names another.
    """
    certificate = sock.getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    if ("URI", node_uri(network_id, node)) not in names:
        raise AuthenticationError(f"the peer is not node {node} of this network")


@contextlib.contextmanager
def file_of(secret: bytes) -> Iterator[str]:
    """Give `secret` a path, because OpenSSL's Python binding loads keys from no other place, and remove it."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, secret)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    descriptor, path = tempfile.mkstemp()  # mode 0600
    try:
        os.write(descriptor, secret)
        os.close(descriptor)
        yield path
    finally:
        Path(path).unlink()

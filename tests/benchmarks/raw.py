"""The upper limit: a plain TLS 1.3 socket of the standard library to another process that does the same work."""

import contextlib
import multiprocessing
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Iterator

from srp_tools.certificates import Identity, NetworkAuthority, NodeKey
from srp_tools.tls import tls_context

_PING, _PUT, _GET = range(3)
_REQUEST = struct.Struct("!BQ")  # the kind of work, and the number of bytes
_SLICE_BYTES = 2**20


class RawPeer:
    """A connection to a process that swallows, returns or answers bytes."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
        self._sock = self._connect()
        self._answer = memoryview(bytearray(1))

    def _connect(self) -> ssl.SSLSocket:
        sock = socket.create_connection(("127.0.0.1", self._port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wrapped = self._context.wrap_socket(sock)
        # In TLS 1.3 the client finishes first; an answer shows that the server has finished, too.
        wrapped.sendall(_REQUEST.pack(_PING, 0))
        wrapped.recv(1)
        return wrapped

    def connect(self, count: int) -> None:
        """Open some connections in turn, and close them."""
        for _ in range(count):
            self._connect().close()

    def ping(self) -> None:
        """Wait for one round trip."""
        self._sock.sendall(_REQUEST.pack(_PING, 0))
        _receive(self._sock, self._answer)

    def put(self, data: memoryview) -> None:
        """Send bytes and wait until they have arrived."""
        self._sock.sendall(_REQUEST.pack(_PUT, len(data)))
        _send(self._sock, data)
        _receive(self._sock, self._answer)

    def get(self, buffer: memoryview) -> None:
        """Receive bytes."""
        self._sock.sendall(_REQUEST.pack(_GET, len(buffer)))
        _receive(self._sock, buffer)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


def lone_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a client and of a server that accept only each other."""
    own, other = _identities()
    return tls_context(own, server_side=False), tls_context(other, server_side=True)


def _identities() -> tuple[Identity, Identity]:
    network_id = secrets.token_bytes(16)
    authority, key = NetworkAuthority(network_id), NodeKey()
    certificate = authority.sign(key.public_bytes(), 1)
    return authority.own_identity(), key.identity(network_id, 1, certificate, authority.certificate)


@contextlib.contextmanager
def raw_peer(largest: int) -> Iterator[RawPeer]:
    """Start a peer that accepts up to `largest` bytes at a time."""
    own, identity = _identities()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(listener, identity, largest), daemon=True
        )
        process.start()
        port = listener.getsockname()[1]
    try:
        with contextlib.closing(RawPeer(port, tls_context(own, server_side=False))) as peer:
            yield peer
    finally:
        process.terminate()
        process.join()


def _serve(listener: socket.socket, identity: Identity, largest: int) -> None:
    context = tls_context(identity, server_side=True)
    # Only once: clearing new memory for each transfer would take a tenth of its time.
    buffer = memoryview(bytearray(largest))
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_answer, args=(sock, context, buffer), daemon=True).start()


def _answer(sock: socket.socket, context: ssl.SSLContext, buffer: memoryview) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = memoryview(bytearray(_REQUEST.size))
    with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as wrapped:
        while True:
            _receive(wrapped, request)
            kind, count = _REQUEST.unpack(request)
            if kind == _PUT:
                _receive(wrapped, buffer[:count])
            if kind == _GET:
                _send(wrapped, buffer[:count])
            else:
                wrapped.sendall(b"\0")


def _receive(sock: ssl.SSLSocket, view: memoryview) -> None:
    while view:
        count = sock.recv_into(view, min(len(view), _SLICE_BYTES))
        if not count:
            raise ConnectionResetError
        view = view[count:]


def _send(sock: ssl.SSLSocket, view: memoryview) -> None:
    for begin in range(0, len(view), _SLICE_BYTES):
        sock.sendall(view[begin : begin + _SLICE_BYTES])

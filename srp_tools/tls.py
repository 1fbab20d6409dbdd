"""Start TLS 1.3 on a socket, as a node of a network."""

import contextlib
import dataclasses
import os
import selectors
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from srp_tools.certificates import Identity, node_uri
from srp_tools.channel import Channel, connection_lost
from srp_tools.errors import AuthenticationError, ConfigurationError, ConnectionLostError
from srp_tools.steps import Steps, Wait


def tls_context(identity: Identity, *, server_side: bool) -> ssl.SSLContext:
    """Return a TLS 1.3 context that authenticates as `identity` and accepts only nodes of its network."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    # Set both, because OpenSSL's configuration on this machine may set either.
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # nodes are identified by number, not by host name: see `check_peer`
    context.verify_mode = ssl.CERT_REQUIRED
    # As PEM: after DER data, Python takes an old error in this thread's OpenSSL error queue for an error of this call.
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(identity.authority))
    if server_side:
        # No session is resumed, so a ticket would only be unread data in the peer's buffer.
        context.num_tickets = 0
    certificate = ssl.DER_cert_to_PEM_cert(identity.certificate).encode()
    with file_of(certificate + identity.key_pem) as path:
        context.load_cert_chain(path)
    return context


class TlsContexts:
    """The TLS contexts of one node, each created on first use: that takes a millisecond, and many nodes need only one.

    Threads may share the object.
    """

    def __init__(self, identity: Identity) -> None:
        self.identity = identity  #: the node's identity; `renew` replaces the object
        self._made: dict[bool, tuple[Identity, ssl.SSLContext]] = {}

    @property
    def client(self) -> ssl.SSLContext:
        """The context for connections that this node opens."""
        return self._context(server_side=False)

    @property
    def server(self) -> ssl.SSLContext:
        """The context for connections that this node accepts."""
        return self._context(server_side=True)

    def renew(self, certificate: bytes, authority: bytes | None = None) -> None:
        """Use another certificate (DER) for the same key on new connections. Existing connections are unaffected.

        `authority`: the certificate (DER) of the authority that signed it, whose nodes alone are accepted from now on;
        ``None`` keeps the previous authority.

        Raises `ConfigurationError` if it is not a certificate or belongs to another key. The old certificate stays.
        """
        identity = dataclasses.replace(
            self.identity, certificate=certificate, authority=authority or self.identity.authority
        )
        try:
            self._made[True] = identity, tls_context(identity, server_side=True)
        except ssl.SSLError as error:
            raise ConfigurationError(f"not a certificate for the key of this node: {error.reason}") from error
        except OSError:  # no free file descriptor
            pass
        self.identity = identity

    def _context(self, *, server_side: bool) -> ssl.SSLContext:
        identity = self.identity
        made = self._made.get(server_side)
        if made is None or made[0] is not identity:
            made = self._made[server_side] = identity, tls_context(identity, server_side=server_side)
        return made[1]


def start_tls(
    sock: socket.socket, context: ssl.SSLContext, network_id: bytes, node: int, *, server_side: bool
) -> Steps[Channel]:
    """Start TLS on a connected non-blocking socket, and check that the peer is the given node of the network.

    Returns
    -------
    Channel
        It owns `sock`. In TLS 1.3, a client learns that the server refused its certificate only from its first read.
        So the server should send something before the client relies on the connection.

    Raises
    ------
    AuthenticationError
        The peer has no certificate of this network, or is another node. The socket is closed.
    ConnectionLostError
        The peer closed the connection or does not use TLS. The socket is closed.
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
        raise AuthenticationError(
            f"the peer does not belong to this network: {error.verify_message}"
        ) from error
    except OSError as error:
        wrapped.close()
        if isinstance(error, AuthenticationError):
            raise
        if isinstance(error, ssl.SSLEOFError | BrokenPipeError):
            # During the handshake, a peer refuses by closing the connection.
            raise ConnectionLostError("the peer closed the connection") from error
        raise connection_lost(error) from error
    except BaseException:
        wrapped.close()
        raise
    return Channel(wrapped)


def check_peer(sock: ssl.SSLSocket, network_id: bytes, node: int) -> None:
    """Check that the peer's certificate names this network and this node.

    Raises `AuthenticationError` if it does not.
    """
    certificate = sock.getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    if ("URI", node_uri(network_id, node)) not in names:
        raise AuthenticationError(f"the peer is not node {node} of this network")


@contextlib.contextmanager
def file_of(secret: bytes) -> Iterator[str]:
    """Provide `secret` as a temporary file, because Python's OpenSSL binding loads keys only from a path."""
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

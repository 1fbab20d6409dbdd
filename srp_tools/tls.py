"""Begin TLS 1.3 on a socket, as a node of a network."""

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
    """Return a context that speaks TLS 1.3 as `identity` and accepts only nodes of its network."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    # Both: the configuration of OpenSSL on this machine may set the other.
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # nodes are known by number, not by a host's name: see `check_peer`
    context.verify_mode = ssl.CERT_REQUIRED
    # As text: at the end of DER, Python takes any error that this thread has left in OpenSSL for one of this call.
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(identity.authority))
    if server_side:
        context.num_tickets = 0  # nobody resumes; a ticket would only be unread data in the peer's buffer
    certificate = ssl.DER_cert_to_PEM_cert(identity.certificate).encode()
    with file_of(certificate + identity.key_pem) as path:
        context.load_cert_chain(path)
    return context


class TlsContexts:
    """The contexts of one node, each made when it is first used: it takes a millisecond, and many need one.

    Threads may share it.
    """

    def __init__(self, identity: Identity) -> None:
        self.identity = identity  #: whose they are; another object after each `renew`
        self._made: dict[bool, tuple[Identity, ssl.SSLContext]] = {}

    @property
    def client(self) -> ssl.SSLContext:
        """For connections that this node makes."""
        return self._context(server_side=False)

    @property
    def server(self) -> ssl.SSLContext:
        """For connections that this node accepts."""
        return self._context(server_side=True)

    def renew(self, certificate: bytes, authority: bytes | None = None) -> None:
        """Show another certificate (DER) for the same key on new connections; those that exist go on.

        `authority`: the certificate (DER) of the one that has signed it, and whose nodes alone are accepted from now
        on; ``None``: the same as before.

        Raises `ConfigurationError` if it is none, or for another key. The one before stays.
        """
        identity = dataclasses.replace(
            self.identity, certificate=certificate, authority=authority or self.identity.authority
        )
        try:
            self._made[True] = identity, tls_context(identity, server_side=True)
        except ssl.SSLError as error:
            raise ConfigurationError(f"not a certificate for the key of this node: {error.reason}") from error
        except OSError:  # there is no room for a descriptor now
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
        if isinstance(error, ssl.SSLEOFError | BrokenPipeError):
            # Before the handshake has ended, this is how a peer refuses.
            raise ConnectionLostError("the peer closed the connection") from error
        raise connection_lost(error) from error
    except BaseException:
        wrapped.close()
        raise
    return Channel(wrapped)


def check_peer(sock: ssl.SSLSocket, network_id: bytes, node: int) -> None:
    """Check that the certificate of the peer names this network and this node.

    Raises `AuthenticationError` if it names another.
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

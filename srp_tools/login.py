"""TLS-SRP login (RFC 5054) on a connected socket: the only user of tlslite.

The SRP layer authenticates both ends with the password and carries two short messages: an *offer* from the server and
an *answer* from the client. Then both sides close the layer in order (each sends ``close_notify`` and waits for the
other's), and another, faster layer takes over the same TCP connection. tlslite's record layer is pure Python and
transfers about 0.3 MB/s, so it is used only for this short exchange.

Points that need care:

* The exponents are secrets. `secret_power` computes tlslite's powers in constant time.
* Nothing may be read past the peer's ``close_notify``, because the bytes behind it belong to the next layer. tlslite
  reads ahead, so `_RecordSocket` hands it one TLS record at a time.
* Only TLS 1.2 has SRP suites; with TLS 1.3 enabled, the handshake fails ("missing extension").
* tlslite offers encrypt-then-MAC, but accepts a peer without it. `_check_order` refuses such a peer before any message
  is sent.
* An unknown user and a wrong password must look the same. An unknown user gets a simulated verifier (RFC 5054, section
  2.5.1.3), and all refusals have the same text.
"""

import contextlib
import errno
import math
import selectors
import socket
import sys
import warnings
from collections.abc import Callable, Generator
from typing import Any

if sys.version_info < (3, 12):
    # tlslite imports asyncore, if present, for a class that this module does not use. Python warns about that, and some
    # users turn warnings into errors. Importing asyncore here first suppresses this one warning and no other.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The asyncore module is deprecated", DeprecationWarning)
        import asyncore  # noqa: F401

from tlslite import keyexchange
from tlslite.api import HandshakeSettings, TLSConnection
from tlslite.constants import AlertDescription
from tlslite.errors import TLSAbruptCloseError, TLSError, TLSLocalAlert, TLSRemoteAlert
from tlslite.messages import ServerKeyExchange
from tlslite.utils.rijndael import Rijndael

from srp_tools.channel import no_answer
from srp_tools.credentials import Credentials
from srp_tools.errors import AuthenticationError, ConnectionLostError, ParallelError, ServerBusyError
from srp_tools.srp_groups import secret_power
from srp_tools.steps import Steps, Wait
from srp_tools.verifier import Verifier

MIN_GROUP_BITS = 2048  # RFC 5054 also lists 1024 and 1536, which a well-funded attacker can break
# Change cipher spec, alert, handshake, application data (RFC 5246, section 6.2.1).
_RECORD_TYPES = range(20, 24)
_MAX_RECORD_BYTES = 2**14 + 2048  # RFC 5246, section 6.2.3
_MAX_MESSAGE_BYTES = 2**14
_REFUSED = "the user name or the password was not accepted"
# The alerts with which a server turns a client away. An alert carries no text; see doc/protocol.md, "Login".
_TURNED_AWAY: dict[str, tuple[type[ParallelError], str]] = {
    "internal_error": (ServerBusyError, "the server is busy: too many clients want to log in"),
    "access_denied": (
        AuthenticationError,
        "too many logins of this user from this address have failed, so the server refuses further ones for a while: "
        "check the user name and the password, and try again in at most 5 minutes",
    ),
}

# tlslite calls its power function by this name. Its own version uses GMP, not in constant time, and there is no setting
# for another. All moduli in an SRP handshake are primes, so `secret_power` fits; there are no other handshakes here.
keyexchange.powMod = secret_power
# The constructor of tlslite's AES finds its caller's source line, to warn about an old class name. For that, Python
# resolves the paths of all modules, which takes longer than the login itself.
Rijndael.__init__ = getattr(Rijndael.__init__, "__wrapped__", Rijndael.__init__)


def log_in(
    sock: socket.socket,
    credentials: Credentials,
    answer: Callable[[bytes], bytes | Steps[bytes]],
    on_salt: Callable[[bytes], object] = lambda _: None,
    on_hello: Callable[[bytes], object] = lambda _: None,
) -> Steps[None]:
    """Log in to a server, receive its offer, send the answer, and close the SRP layer.

    Parameters
    ----------
    sock
        Non-blocking and connected. It stays open, positioned just after the SRP layer.
    credentials
        User and password. The password does not leave this process.
    answer
        Called with the server's offer after both ends have proved that they know the password. Returns the answer for
        the server, or steps that return it.
    on_salt
        Called with the salt that the server sent for the user, before either end has proved anything.
    on_hello
        Called with this login's ClientHello, as TLS records, before `answer` is called.

    Raises
    ------
    AuthenticationError
        The server refused the user or the password, or cannot prove that it has the verifier. Or the server blocks
        this user for some time because too many logins have failed.
    ServerBusyError
        Too many clients are logging in.
    ConnectionLostError
        The peer closed the connection or does not use TLS-SRP. The socket is unusable.
    """
    records = _RecordSocket(sock)
    connection = _ClientConnection(records, on_salt)
    connection.closeSocket = False
    with _mapped_errors():
        yield from _drive(
            records,
            connection.handshakeClientSRP(
                bytearray(credentials.user, "utf-8"),
                bytearray(credentials.password, "utf-8"),
                settings=_settings(),
                async_=True,
            ),
        )
        _check_order(connection)
        on_hello(records.first)
        offer = yield from _receive(records, connection)
        answered = answer(offer)
        data = answered if isinstance(answered, bytes) else (yield from answered)
        yield from _send(records, connection, data)
        yield from _drive(records, connection.closeAsync())


def accept_login(
    sock: socket.socket,
    lookup: Callable[[str], Verifier],
    offer: bytes,
    received: bytes = b"",
    proof_deadline: float = math.inf,
) -> Steps[tuple[str, bytes]]:
    """Let a client log in, send the offer, and return the user's name and the client's answer.

    Parameters
    ----------
    sock
        Non-blocking and connected. It stays open, positioned just after the SRP layer.
    lookup
        Returns the verifier of a user; for an unknown user, a simulated verifier.
    offer
        At most 16 KiB.
    received
        Bytes already read from the connection: whole TLS records.
    proof_deadline
        Instant by which the client must have proved that it knows the password.

    Raises
    ------
    AuthenticationError
        The client does not know the password. It has been notified.
    TimeoutError
        `proof_deadline` has passed.
    ConnectionLostError
        The client closed the connection or does not use TLS-SRP. The socket is unusable.
    """
    records = _RecordSocket(sock, received)
    connection = TLSConnection(records)
    connection.closeSocket = False
    verifiers = _Verifiers(lookup)
    with _mapped_errors():
        handshake = connection.handshakeServerAsync(verifierDB=verifiers, settings=_settings())
        records.deadline = proof_deadline
        yield from _drive(records, handshake)
        _check_order(connection)
        records.deadline = math.inf
        yield from _send(records, connection, offer)
        answer = yield from _receive(records, connection)
        yield from _drive(records, connection.closeAsync())
    return verifiers.user, answer


def _settings() -> Any:
    settings = HandshakeSettings()
    settings.minVersion = settings.maxVersion = (3, 3)
    settings.versions = [(3, 3)]  # otherwise a hello may list older versions
    settings.minKeySize = MIN_GROUP_BITS
    settings.cipherNames = ["aes256", "aes128"]
    settings.useEncryptThenMAC = True
    settings.requireExtendedMasterSecret = True  # RFC 7627
    return settings


def _check_order(connection: TLSConnection) -> None:
    """Refuse a peer without encrypt-then-MAC, because CBC with HMAC-SHA1 is secure only in this order (RFC 7366)."""
    if not connection.session.encryptThenMAC:
        raise ConnectionLostError("the login failed: the peer does not use encrypt-then-MAC (RFC 7366)")


class _ClientConnection(TLSConnection):  # type: ignore[misc]
    """A client's connection that reports the salt sent by the server, which tlslite does not expose."""

    def __init__(self, sock: "_RecordSocket", on_salt: Callable[[bytes], object]) -> None:
        super().__init__(sock)
        self._on_salt = on_salt

    def _getMsg(self, *args: Any) -> Generator[Any, None, None]:  # noqa: N802 - tlslite's name
        for result in super()._getMsg(*args):
            if isinstance(result, ServerKeyExchange):
                self._on_salt(bytes(result.srp_s))
            yield result


class _Verifiers:
    """The mapping in which tlslite looks up the user of a handshake."""

    def __init__(self, lookup: Callable[[str], Verifier]) -> None:
        self._lookup = lookup
        self.user = ""

    def __getitem__(self, name: bytes) -> tuple[int, int, bytearray, int]:
        # No user has a name that is not UTF-8, so the lookup of its escaped form returns a simulated verifier.
        self.user = name.decode("utf-8", "backslashreplace")
        found = self._lookup(self.user)
        return found.group.prime, found.group.generator, bytearray(found.salt), found.verifier


class _RecordSocket:
    """A socket for tlslite: reads stop at the end of a TLS record, and writes are buffered until `flush`.

    `received`: bytes already read from the socket.
    """

    def __init__(self, sock: socket.socket, received: bytes = b"") -> None:
        self._sock = sock
        self._received = bytearray(received)
        self.deadline = math.inf  # for each wait
        self._header = bytearray()
        self._left = 0
        self._outgoing = bytearray()
        self.first = b""  #: the bytes that were sent first

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, data: bytes) -> int:
        self._outgoing += data
        return len(data)

    def sendall(self, data: bytes) -> None:
        self._outgoing += data

    def flush(self) -> Steps[None]:
        self.first = self.first or bytes(self._outgoing)
        while self._outgoing:
            try:
                del self._outgoing[: self._sock.send(self._outgoing)]
            except BlockingIOError:
                yield Wait(self.fileno(), selectors.EVENT_WRITE, self.deadline)

    def _read(self, count: int) -> bytes:
        data = bytes(self._received[:count])
        del self._received[:count]
        return data or self._sock.recv(count)

    def recv(self, count: int) -> bytes:
        if self._left:
            data = self._read(min(count, self._left))
            self._left -= len(data)
            return data
        data = self._read(min(count, 5 - len(self._header)))
        self._header += data
        if self._header and self._header[0] not in _RECORD_TYPES:
            raise ConnectionLostError("the peer does not speak TLS")
        if len(self._header) == 5:
            self._left = int.from_bytes(self._header[3:], "big")
            self._header.clear()
            if self._left > _MAX_RECORD_BYTES:
                raise ConnectionLostError(
                    f"the peer sent a TLS record of {self._left} bytes, which is too long"
                )
        return data


def _drive(records: _RecordSocket, operation: Generator[Any, None, None]) -> Steps[bytes]:
    """Run an operation of tlslite, which yields 0 to wait for reading, 1 to wait for writing, or its result."""
    result = b""
    try:
        for state in operation:
            yield from records.flush()
            if isinstance(state, int):
                events = selectors.EVENT_WRITE if state else selectors.EVENT_READ
                yield Wait(records.fileno(), events, records.deadline)
            else:
                result = bytes(state)
    except TLSError:
        # Send the pending alert, which tells the peer the reason. If that fails, the error is the same.
        with contextlib.suppress(OSError):
            yield from records.flush()
        raise
    except (TypeError, ValueError) as error:
        if isinstance(error, ParallelError):
            raise
        # tlslite does not check everything: a name that is not text, for example, raises a TypeError.
        raise ConnectionLostError(f"the login failed: {error}") from error
    yield from records.flush()
    return result


def _send(records: _RecordSocket, connection: Any, message: bytes) -> Steps[None]:
    if len(message) > _MAX_MESSAGE_BYTES:
        raise ValueError(f"a login message of {len(message)} bytes is too long")
    yield from _drive(records, connection.writeAsync(len(message).to_bytes(2, "big") + message))


def _receive(records: _RecordSocket, connection: Any) -> Steps[bytes]:
    head = yield from _drive(records, connection.readAsync(max=2, min=2))
    count = int.from_bytes(head, "big")
    message = b""
    if len(head) == 2 and 0 < count <= _MAX_MESSAGE_BYTES:
        message = yield from _drive(records, connection.readAsync(max=count, min=count))
    if len(head) < 2 or len(message) < count or count > _MAX_MESSAGE_BYTES:
        raise ConnectionLostError("the peer closed the connection in the middle of the login")
    return message


class _mapped_errors:  # noqa: N801 - used like a function
    """Convert tlslite's errors to ours."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, (TLSRemoteAlert, TLSLocalAlert)):
            # bad_record_mac: the two ends derived different keys, so one of them does not know the password (or the
            # verifier). unknown_psk_identity: the server distinguishes unknown users; we do not reveal that.
            alert = AlertDescription.toStr(error.description)
            if alert in ("bad_record_mac", "unknown_psk_identity", "decrypt_error"):
                raise AuthenticationError(_REFUSED) from error
            if isinstance(error, TLSRemoteAlert) and alert in _TURNED_AWAY:
                kind, reason = _TURNED_AWAY[alert]
                raise kind(reason) from error
            # Not `str(error)`, which fails if tlslite has stored an exception as the message.
            reason = getattr(error, "message", None) or alert
            raise ConnectionLostError(f"the login failed: {reason} (does the peer offer TLS-SRP?)") from error
        if isinstance(error, ConnectionResetError):
            raise ConnectionLostError("the connection was reset during the login") from error
        if isinstance(error, (TLSAbruptCloseError, BrokenPipeError)):
            raise ConnectionLostError("the peer closed the connection during the login") from error
        if isinstance(error, TLSError):
            raise ConnectionLostError(f"the login failed: {type(error).__name__}: {error}") from error
        if isinstance(error, OSError) and error.errno == errno.ETIMEDOUT:
            raise no_answer(None) from error

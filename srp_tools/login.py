"""TLS-SRP login (RFC 5054) on a connected socket: the only user of tlslite.

The SRP layer authenticates both ends by the password alone and carries two short messages, an *offer* of the server
and an *answer* of the client. Then both sides close it in order (each sends ``close_notify`` and waits for the
other's), and the same TCP connection goes on with another, faster layer. tlslite's record layer is pure Python and
carries about 0.3 MB/s, hence the short life.

What needs care:

* The exponents are secrets. `secret_power` computes tlslite's powers in constant time.
* Nothing may be read past the peer's ``close_notify``, because the bytes behind it belong to the next layer. tlslite
  reads ahead; `_RecordSocket` therefore hands it one TLS record at a time, never more.
* Only TLS 1.2 has SRP suites; with TLS 1.3 enabled the handshake fails ("missing extension").
* tlslite offers encrypt-then-MAC, but goes on with a peer that does not want it. `_check_order` refuses that peer
  before anything is said.
* An unknown user and a wrong password must look the same: the verifier that is looked up for an unknown user is a
  simulated one (RFC 5054, section 2.5.1.3), and every refusal is reported with the same words.
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
    # tlslite imports it where it is, for a class that we do not use. Python warns of that, and users make errors of
    # warnings. So it is here before tlslite looks, and no other warning is held back.
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

MIN_GROUP_BITS = 2048  # RFC 5054 still lists 1024 and 1536; both are within reach of a well funded attacker.
# Change cipher spec, alert, handshake, application data (RFC 5246, section 6.2.1).
_RECORD_TYPES = range(20, 24)
_MAX_RECORD_BYTES = 2**14 + 2048  # RFC 5246, section 6.2.3
_MAX_MESSAGE_BYTES = 2**14
_REFUSED = "the user name or the password was not accepted"
# What a server says to a client that it does not let begin. An alert has no text; see doc/protocol.md, "Login".
_TURNED_AWAY: dict[str, tuple[type[ParallelError], str]] = {
    "internal_error": (ServerBusyError, "the server is busy: too many clients want to log in"),
    "access_denied": (
        AuthenticationError,
        "too many logins of this user from this address have failed, so the server refuses the next ones for a while: "
        "check the user name and the password, and try again in 5 minutes at most",
    ),
}

# tlslite takes its powers by this name, from GMP but not in constant time, and has no setting for it. What an SRP
# handshake computes has a prime for its modulus, so it fits; other handshakes do not happen here.
keyexchange.powMod = secret_power
# Its AES looks at the source line of whoever makes one, to warn of an old name of the class. To find that line, Python
# resolves the paths of all modules, which takes longer than the login itself.
Rijndael.__init__ = getattr(Rijndael.__init__, "__wrapped__", Rijndael.__init__)


def log_in(
    sock: socket.socket,
    credentials: Credentials,
    answer: Callable[[bytes], bytes | Steps[bytes]],
    on_salt: Callable[[bytes], object] = lambda _: None,
    on_hello: Callable[[bytes], object] = lambda _: None,
) -> Steps[None]:
    """Log in at a server, receive its offer, send the answer, and close the SRP layer.

    Parameters
    ----------
    sock
        Non-blocking and connected. It stays open, positioned exactly behind the SRP layer.
    credentials
        User and password. The password does not leave this process.
    answer
        Called with the server's offer when both ends have proved that they know the password; returns what the server
        gets, or steps that do.
    on_salt
        Called with the salt that the server names for the user, before anyone has proved anything.
    on_hello
        Called with the ClientHello of this login, as TLS records, before `answer` is.

    Raises
    ------
    AuthenticationError
        The server refused user or password, or does not know the verifier itself; or it accepts no login of this user
        for some time, because too many have failed.
    ServerBusyError
        Too many clients want to log in.
    ConnectionLostError
        The peer closed the connection or does not speak TLS-SRP. The socket is of no more use.
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
        Non-blocking and connected. It stays open, positioned exactly behind the SRP layer.
    lookup
        Returns the verifier of a user; for an unknown one a simulated verifier.
    offer
        At most 16 KiB.
    received
        What was read from the connection before: whole TLS records.
    proof_deadline
        Instant until which the client must have proved that it knows the password.

    Raises
    ------
    AuthenticationError
        The client does not know the password. It has been told so.
    TimeoutError
        `proof_deadline` has passed.
    ConnectionLostError
        The client closed the connection or does not speak TLS-SRP. The socket is of no more use.
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
    settings.versions = [(3, 3)]  # else a hello may list older ones
    settings.minKeySize = MIN_GROUP_BITS
    settings.cipherNames = ["aes256", "aes128"]
    settings.useEncryptThenMAC = True
    settings.requireExtendedMasterSecret = True  # RFC 7627
    return settings


def _check_order(connection: TLSConnection) -> None:
    """Refuse a peer without encrypt-then-MAC: CBC with HMAC-SHA1 is sound in this order only (RFC 7366)."""
    if not connection.session.encryptThenMAC:
        raise ConnectionLostError("the login failed: the peer does not use encrypt-then-MAC (RFC 7366)")


class _ClientConnection(TLSConnection):  # type: ignore[misc]
    """A client's connection that tells which salt the server names; tlslite keeps it to itself."""

    def __init__(self, sock: "_RecordSocket", on_salt: Callable[[bytes], object]) -> None:
        super().__init__(sock)
        self._on_salt = on_salt

    def _getMsg(self, *args: Any) -> Generator[Any, None, None]:  # noqa: N802 - tlslite's name
        for result in super()._getMsg(*args):
            if isinstance(result, ServerKeyExchange):
                self._on_salt(bytes(result.srp_s))
            yield result


class _Verifiers:
    """The mapping that tlslite asks for the user of a handshake."""

    def __init__(self, lookup: Callable[[str], Verifier]) -> None:
        self._lookup = lookup
        self.user = ""

    def __getitem__(self, name: bytes) -> tuple[int, int, bytearray, int]:
        # A name that is not UTF-8 is nobody's; what stands for its bytes is looked up and so simulated.
        self.user = name.decode("utf-8", "backslashreplace")
        found = self._lookup(self.user)
        return found.group.prime, found.group.generator, bytearray(found.salt), found.verifier


class _RecordSocket:
    """What tlslite takes for a socket: reads stop at the end of a TLS record, writes are kept until `flush`.

    `received` has been read from it before.
    """

    def __init__(self, sock: socket.socket, received: bytes = b"") -> None:
        self._sock = sock
        self._received = bytearray(received)
        self.deadline = math.inf  # for each wait
        self._header = bytearray()
        self._left = 0
        self._outgoing = bytearray()
        self.first = b""  #: what was sent first

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
    """Run one of tlslite's operations, which yield 0 to wait for reading, 1 for writing, else their result."""
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
        # The alert that tells the peer why is still to be sent; if it cannot be, the error is the same.
        with contextlib.suppress(OSError):
            yield from records.flush()
        raise
    except (TypeError, ValueError) as error:
        if isinstance(error, ParallelError):
            raise
        # On a name that is no text, for one, tlslite stumbles instead of raising an error of its own.
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


class _mapped_errors:  # noqa: N801 - used as a function is
    """The border at which tlslite's errors become ours."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, (TLSRemoteAlert, TLSLocalAlert)):
            # bad_record_mac: the two ends derived different keys, so one does not know the password (or the
            # verifier). unknown_psk_identity: a server that tells unknown users apart; we do not pass that on.
            alert = AlertDescription.toStr(error.description)
            if alert in ("bad_record_mac", "unknown_psk_identity", "decrypt_error"):
                raise AuthenticationError(_REFUSED) from error
            if isinstance(error, TLSRemoteAlert) and alert in _TURNED_AWAY:
                kind, reason = _TURNED_AWAY[alert]
                raise kind(reason) from error
            # Not `str(error)`, which fails where tlslite has put an exception in place of the message.
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

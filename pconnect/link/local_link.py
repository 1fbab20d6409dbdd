"""Unix sockets instead of TLS between two processes of one account on one machine.

Anyone who can eavesdrop on such a link can also read the memory of the two processes, so encryption would protect
nothing. But both ends must prove their identity. There are four checks, and if one of them fails, the link uses TLS:

* Both ends have reported the same *place* to the client inside its logins: the boot id of the machine, the account, and
  the user and mount namespaces. So neither is in another container.
* The socket is in a folder that belongs to this account and that no other account may enter. The folder is opened
  first, and the socket is reached through that descriptor, so no other account can exchange it after the check.
* Each end asks the system for the account of the other (SO_PEERCRED, unix(7)).
* The dialing end presents a token, which only the two nodes of this link and their client know. The client sends it to
  both through their encrypted command channels.
"""

import contextlib
import hmac
import os
import select
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pconnect.errors import AuthenticationError
from pconnect.link.local_channel import LocalChannel
from pconnect.link.nonces import new_nonce
from pconnect.protocol.frames import Preamble
from srp_tools.channel import Channel
from srp_tools.steps import Steps, send_all

TOKEN_BYTES = 32
#: struct ucred in socket.h: process, user and group.
CREDENTIALS = struct.Struct("iII")


class LocalAddress(NamedTuple):
    """Where a server accepts data connections from its own account."""

    place: str  #: its `own_place`
    path: str  #: the path of its socket


def own_place() -> str:
    """Return a text that is equal for processes of one account, machine and container, or "" if that is unknown."""
    if sys.platform != "linux":
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespaces = [str(Path("/proc/self/ns", name).readlink()) for name in ("user", "mnt")]
    except OSError:
        return ""
    return " ".join([boot, str(os.geteuid()), *namespaces])


def read_address(value: object) -> LocalAddress | None:
    """Return the local address in a server's offer, or ``None`` if it has none."""
    match value:
        case [str(place), str(path)] if place and path:
            return LocalAddress(place, path)
    return None


def link_token(key: bytes, node: int, other: int) -> bytes:
    """Return the token of the link between two nodes. `key` is the secret of the network's client."""
    return hmac.digest(key, b"%d %d" % (min(node, other), max(node, other)), "sha256")


def client_link(key: bytes | None, address: LocalAddress | None, node: int) -> tuple[str, bytes] | None:
    """Return path and token of the local link from this process, the client, to a node; ``None`` if it has none."""
    if key is None or address is None or address.place != own_place():
        return None
    return address.path, link_token(key, 0, node)


def listen(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket that listens on a path in a private folder. Removes the socket of a killed server.

    Raises `OSError` if this fails, and `AuthenticationError` if the folder is accessible to others.
    """
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        path.unlink(missing_ok=True)
        with _reach(path) as address:
            sock.bind(address)
        path.chmod(0o600)
        sock.listen(1024)
    except BaseException:
        sock.close()
        raise
    return sock


def connect(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Return a non-blocking socket that is connected to a listening socket at `path`.

    Raises `AuthenticationError` or `OSError` if the folder or the listening process belongs to another account, or if
    the connection is not accepted.
    """
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.setblocking(False)
        with _reach(path) as address:
            sock.connect(address)  # succeeds immediately or fails
        check_account(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def dial_local(path: str, token: bytes, preamble: Preamble) -> Steps[Channel]:
    """Open a data connection to the socket of a server. The server's `HELLO` has yet to come.

    Raises `AuthenticationError` or `OSError` if the folder or the listening process belongs to another account, or if
    the connection is not accepted.
    """
    sock = connect(Path(path))
    try:
        yield from send_all(sock, preamble.pack(new_nonce()) + token)
    except BaseException:
        sock.close()
        raise
    return LocalChannel(sock)


def accept_local(sock: socket.socket, token: bytes | None) -> Steps[Channel]:
    """Check that the dialing process belongs to this account and knows the token of the link.

    Raises `AuthenticationError` if it does not, or if the client does not want such a link (`token` is ``None``).
    Raises `ConnectionLostError` if it has closed the connection.
    """
    check_account(sock)
    channel = LocalChannel(sock)
    shown = yield from channel.receive_exactly(TOKEN_BYTES)
    if token is None or not hmac.compare_digest(shown, token):
        raise AuthenticationError("the peer does not know the token of this link")
    return channel


def check_account(sock: socket.socket) -> None:
    """Check that the process at the other end of a Unix socket belongs to the same account.

    Raises `AuthenticationError` if it does not.
    """
    _, user, _ = _credentials(sock)
    if user != os.geteuid():
        raise AuthenticationError(f"the process at the other end belongs to another account (user id {user})")


def peer_pid(sock: socket.socket) -> int:
    """Return the process id of the process that has connected to a Unix socket."""
    return _credentials(sock)[0]


def peer_user(sock: socket.socket) -> int:
    """Return the user id of the process that has connected to a Unix socket."""
    return _credentials(sock)[1]


def _credentials(sock: socket.socket) -> tuple[int, int, int]:
    pid, user, group = CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    )
    return pid, user, group


def is_local(sock: socket.socket) -> bool:
    """Whether this is a Unix socket."""
    return sock.family == getattr(socket, "AF_UNIX", None)


def has_hung_up(sock: socket.socket) -> bool:
    """Whether the other end of a Unix socket is closed."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


@contextlib.contextmanager
def _reach(path: Path) -> Iterator[str]:
    """Yield a path for a socket in a private folder that fits into the 108 bytes of a socket address (unix(7))."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        facts = os.fstat(folder)
        if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
            raise AuthenticationError(
                f"the folder {path.parent} is open to others, so no socket in it is trusted: give the path that "
                "pserver status shows"
            )
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

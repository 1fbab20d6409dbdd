"""A client that comes back: what its login says of it, and its way from there to the session that it has left.

The client logs in as any other, so another process than that of its session has checked the password. That process
gives the connection away: to the daemon, which knows the sessions, and compares user, network and key of the network;
and the daemon to the session, which begins TLS 1.3 there, as in a login.
"""

import json
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from pconnect.errors import ParallelError, ProtocolError
from pconnect.protocol.frames import HELLO, NO_LIMIT
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import encode_message
from pserver.orphans.answers import read_answer
from srp_tools.channel import Channel
from srp_tools.steps import Steps

#: Of the words that name a client that comes back: two certificates in hexadecimal digits, and little more.
MESSAGE_BYTES = 4096
_DAEMON_SECONDS = 10.0


class Return(NamedTuple):
    """What a client says that comes back to a node; the certificates are those of a new authority of its network."""

    node: int
    certificate: bytes  #: for the key that the node has
    authority: bytes
    takes_over: bool  #: also from a client that is still there

    @classmethod
    def read(cls, answer: object) -> "Return | None":
        """Return what the answer of a login, or of a further node, says of this; ``None`` if nothing.

        Raises `ProtocolError` if it makes no sense.
        """
        match answer:
            case {
                "back": [bytes() as certificate, bool() as takes_over],
                "node": int(node),
                "authority": bytes(authority),
            }:
                return cls(node, certificate, authority, takes_over)
            case {"back": _}:
                raise ProtocolError("the client's answer says in another form that it comes back")
        return None

    def pack(self) -> dict[str, object]:
        """Return what JSON can express."""
        return {
            "node": self.node,
            "certificate": self.certificate.hex(),
            "authority": self.authority.hex(),
            "takes_over": self.takes_over,
        }

    @classmethod
    def unpack(cls, data: bytes) -> "Return":
        """Return what was packed and sent. Raises `ValueError`, `KeyError` or `TypeError` if it was not."""
        words = json.loads(data)["back"]
        certificate, authority = bytes.fromhex(words["certificate"]), bytes.fromhex(words["authority"])
        return cls(int(words["node"]), certificate, authority, words["takes_over"] is True)


class HandedOverError(ParallelError):
    """The connection is its former session's now; here, nothing is left to do."""


def hand_over(control: socket.socket, sock: socket.socket, who: dict[str, object], back: Return) -> str:
    """Give the connection of a client that has logged in to its former session; return why that is impossible.

    An empty text says that there is no such session. `control`: the socket to the daemon. `who`: the user, the network
    and its key, as the daemon knows them of sessions. Raises `HandedOverError` if it is done.
    """
    words = json.dumps({"resume": who, "back": back.pack()}).encode()
    socket.send_fds(control, [words], [sock.fileno()])
    control.settimeout(_DAEMON_SECONDS)
    why = read_answer(control.recv(MESSAGE_BYTES))
    if why is None:
        raise HandedOverError("the client has come back to its session")
    return why


def turn_away(channel: Channel, why: str) -> Steps[None]:
    """Say to a client why it cannot come back, as the first word on its command channel."""
    yield from channel.send_all(HELLO + refusal(why))


def refusal(why: str) -> bytes:
    """Return the message that says why; an empty text says that there is nothing to come back to."""
    return b"".join(encode_message(Kind.BACK, 0, why, NO_LIMIT))


@dataclass(frozen=True)
class ReturningClient:
    """A client that has come back to a node, and the command channel that leads to it."""

    channel: Channel
    back: Return


@dataclass(eq=False)
class Orders:
    """What the main thread of a session tells the supervisor of one node, which has a thread of its own."""

    node: int
    sock: socket.socket  #: ours; the supervisor has the other end
    returning: deque[ReturningClient] = field(default_factory=deque)

    def stop(self) -> None:
        """Have it stop, because the server does. Raises `OSError` if it is just ending."""
        self.sock.send(b"x")

    def come_back(self, client: ReturningClient) -> None:
        """Give it a client that has come back. Raises `OSError` if it is just ending."""
        self.returning.append(client)
        self.sock.send(b"r")

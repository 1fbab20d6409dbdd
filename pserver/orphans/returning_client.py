"""A returning client: the announcement in its login, and its way from there to the session that it has left.

The client logs in like any other, so a process other than that of its session has checked the password. That process
hands the connection to the daemon. The daemon knows the sessions, compares user, network and key of the network, and
hands the connection to the session, which starts TLS 1.3 as after any login.
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

#: Limit for the message that announces a returning client: two certificates in hexadecimal, and little else.
MESSAGE_BYTES = 4096
_DAEMON_SECONDS = 10.0


class Return(NamedTuple):
    """A client's request to come back to a node; the certificates are those of a new authority of its network."""

    node: int
    certificate: bytes  #: for the node's existing key
    authority: bytes
    takes_over: bool  #: even if the previous client is still there

    @classmethod
    def read(cls, answer: object) -> "Return | None":
        """Return the request in the answer of a login, or of a further node; ``None`` if there is none.

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
                raise ProtocolError("the client's answer makes no sense: its entry 'back' has another form")
        return None

    def pack(self) -> dict[str, object]:
        """Return the request in a form for JSON."""
        return {
            "node": self.node,
            "certificate": self.certificate.hex(),
            "authority": self.authority.hex(),
            "takes_over": self.takes_over,
        }

    @classmethod
    def unpack(cls, data: bytes) -> "Return":
        """Decode a request from `pack`. Raises `ValueError`, `KeyError` or `TypeError` if it makes no sense."""
        words = json.loads(data)["back"]
        certificate, authority = bytes.fromhex(words["certificate"]), bytes.fromhex(words["authority"])
        return cls(int(words["node"]), certificate, authority, words["takes_over"] is True)


class HandedOverError(ParallelError):
    """The connection now belongs to its former session; this process has nothing left to do."""


def hand_over(control: socket.socket, sock: socket.socket, who: dict[str, object], back: Return) -> str:
    """Hand the connection of a logged-in client to its former session; return why that is impossible.

    An empty text means that there is no such session. `control`: the socket to the daemon. `who`: the user, the network
    and its key, in the form in which the daemon knows sessions. Raises `HandedOverError` on success.
    """
    words = json.dumps({"resume": who, "back": back.pack()}).encode()
    socket.send_fds(control, [words], [sock.fileno()])
    control.settimeout(_DAEMON_SECONDS)
    why = read_answer(control.recv(MESSAGE_BYTES))
    if why is None:
        raise HandedOverError("the client has come back to its session")
    return why


def turn_away(channel: Channel, why: str) -> Steps[None]:
    """Tell a client why it cannot come back, in the first message on its command channel."""
    yield from channel.send_all(HELLO + refusal(why))


def refusal(why: str) -> bytes:
    """Return the message with the reason; an empty text means that there is nothing to come back to."""
    return b"".join(encode_message(Kind.BACK, 0, why, NO_LIMIT))


@dataclass(frozen=True)
class ReturningClient:
    """A client that has come back to a node, with its command channel."""

    channel: Channel
    back: Return


@dataclass(eq=False)
class Orders:
    """Requests from the main thread of a session to the supervisor of one node, which has its own thread."""

    node: int
    sock: socket.socket  #: the main thread's end; the supervisor has the other
    returning: deque[ReturningClient] = field(default_factory=deque)

    def stop(self) -> None:
        """Stop it because the server is stopping. Raises `OSError` if it is just ending."""
        self.sock.send(b"x")

    def come_back(self, client: ReturningClient) -> None:
        """Pass it a client that has come back. Raises `OSError` if it is just ending."""
        self.returning.append(client)
        self.sock.send(b"r")

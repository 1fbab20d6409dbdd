"""Connections that have not identified themselves, and the choice of one to close when there are too many.

All of them have the same time limit, so the order of arrival is the order of the deadlines. To make room, the source
with the most connections loses its oldest one: a source that holds thousands loses one of them, and other sources none.
"""

import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pserver.daemon.door.client_hello import ClientHello

_SUBNET_BITS = 64  # of IPv6: one customer typically has such a network, and can use any address in it
_LOCAL = "this machine"


@dataclass(frozen=True, slots=True)
class Source:
    """The origin of a connection."""

    #: Of the other machine; ``None`` for a process on this machine that uses a Unix socket. IPv4 addresses that the
    #: system writes as IPv6 addresses are stored as IPv4 addresses.
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
    port: int = 0

    @classmethod
    def of(cls, sock_address: Any) -> "Source":
        """Make a source from the address that ``accept`` returns with a TCP socket."""
        address = ipaddress.ip_address(sock_address[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return cls(address, sock_address[1])

    @classmethod
    def read(cls, text: str) -> "Source":
        """Parse the text form of a source; raise `ValueError` if it is not valid."""
        address, _, port = text.partition(" port ")
        source = cls() if text == _LOCAL else cls(ipaddress.ip_address(address), int(port))
        if str(source) != text or not 0 <= source.port < 2**16 or "%" in address:
            raise ValueError(f"{text!r} is not the text form of a source")
        return source

    def __str__(self) -> str:
        return _LOCAL if self.address is None else f"{self.address} port {self.port}"

    @property
    def group(self) -> str:
        """The unit for counting: an IPv4 address, or the /64 network of an IPv6 address."""
        if isinstance(self.address, ipaddress.IPv6Address):
            shift = 128 - _SUBNET_BITS
            return str(ipaddress.IPv6Network((int(self.address) >> shift << shift, _SUBNET_BITS)))
        return _LOCAL if self.address is None else str(self.address)


@dataclass(eq=False, slots=True)
class PendingConnection:
    """A connection that has not been passed on yet."""

    sock: socket.socket
    source: Source
    is_data: bool  #: whether it arrived on the data port
    deadline: float  #: the time by which it must have identified itself
    #: The bytes read so far: of its preamble, or of its ClientHello.
    received: bytearray = field(default_factory=bytearray)
    hello: ClientHello = field(default_factory=ClientHello)
    #: Whether it was sent a refusal, so the peer is expected to close the connection.
    is_refused: bool = False

    @property
    def peer(self) -> str:
        """Its source as text."""
        return str(self.source)

    @property
    def user(self) -> str:
        """The user that its ClientHello names; empty without one."""
        return self.hello.user or ""


class Arrivals:
    """The connections that have not identified themselves, in the order of arrival."""

    def __init__(self) -> None:
        self._all: dict[PendingConnection, None] = {}
        self._by_group: dict[str, dict[PendingConnection, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[PendingConnection]:
        return iter(list(self._all))

    def add(self, pending: PendingConnection) -> None:
        """Add a new connection."""
        self._all[pending] = None
        self._by_group.setdefault(pending.source.group, {})[pending] = None

    def remove(self, pending: PendingConnection) -> None:
        """Remove a connection."""
        del self._all[pending]
        group = self._by_group[pending.source.group]
        del group[pending]
        if not group:
            del self._by_group[pending.source.group]

    def least_entitled(self) -> PendingConnection | None:
        """Return the connection to close when room is needed: the oldest of the source with the most connections."""
        greediest = max(self._by_group.values(), key=len, default=None)
        return next(iter(greediest)) if greediest else None

    def next_deadline(self) -> float | None:
        """Return the first deadline; ``None`` without connections."""
        return next((pending.deadline for pending in self._all), None)

    def expired(self, now: float) -> list[PendingConnection]:
        """Return the connections whose deadline has passed."""
        found = []
        for pending in self._all:
            if pending.deadline > now:
                break
            found.append(pending)
        return found

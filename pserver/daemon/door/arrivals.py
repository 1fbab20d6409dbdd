"""Connections that have not said where they belong, and which of them makes room when there are too many.

All have the same time to say it, so the order of arrival is that of the deadlines. When room is needed, the source with
the most connections gives up its oldest: who holds thousands loses one of them, and others none.
"""

import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pserver.daemon.door.client_hello import ClientHello

_SUBNET_BITS = 64  # of IPv6: what one customer has, who can take any address in it
_LOCAL = "this machine"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a connection comes from."""

    #: Of the other machine; ``None`` for a process of this one, at a Unix socket. An IPv4 address is one, also where
    #: the system writes it as an IPv6 address.
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
    port: int = 0

    @classmethod
    def of(cls, sock_address: Any) -> "Source":
        """Return the source for what ``accept`` returns beside a TCP socket."""
        address = ipaddress.ip_address(sock_address[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return cls(address, sock_address[1])

    @classmethod
    def read(cls, text: str) -> "Source":
        """Return the source that is written so; raise `ValueError` if none is."""
        address, _, port = text.partition(" port ")
        source = cls() if text == _LOCAL else cls(ipaddress.ip_address(address), int(port))
        if str(source) != text or not 0 <= source.port < 2**16 or "%" in address:
            raise ValueError("no source is written so")
        return source

    def __str__(self) -> str:
        return _LOCAL if self.address is None else f"{self.address} port {self.port}"

    @property
    def group(self) -> str:
        """What is counted as one: an IPv4 address, or the /64 network of an IPv6 address."""
        if isinstance(self.address, ipaddress.IPv6Address):
            shift = 128 - _SUBNET_BITS
            return str(ipaddress.IPv6Network((int(self.address) >> shift << shift, _SUBNET_BITS)))
        return _LOCAL if self.address is None else str(self.address)


@dataclass(eq=False, slots=True)
class PendingConnection:
    """A connection, until it belongs to somebody."""

    sock: socket.socket
    source: Source
    is_data: bool  #: whether it came in at the data port
    deadline: float  #: instant until which it must have said enough
    #: What was read from it: its preamble, or its ClientHello.
    received: bytearray = field(default_factory=bytearray)
    hello: ClientHello = field(default_factory=ClientHello)
    #: Whether it has got an answer that says why it is not wanted, and is to close the connection.
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
    """The connections that have not said enough, in the order of arrival."""

    def __init__(self) -> None:
        self._all: dict[PendingConnection, None] = {}
        self._by_group: dict[str, dict[PendingConnection, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[PendingConnection]:
        return iter(list(self._all))

    def add(self, pending: PendingConnection) -> None:
        """Take in one that has just come."""
        self._all[pending] = None
        self._by_group.setdefault(pending.source.group, {})[pending] = None

    def remove(self, pending: PendingConnection) -> None:
        """Forget one."""
        del self._all[pending]
        group = self._by_group[pending.source.group]
        del group[pending]
        if not group:
            del self._by_group[pending.source.group]

    def least_entitled(self) -> PendingConnection | None:
        """Return the one that makes room: the oldest of the source that has the most."""
        greediest = max(self._by_group.values(), key=len, default=None)
        return next(iter(greediest)) if greediest else None

    def next_deadline(self) -> float | None:
        """Return the instant at which the first is due; ``None`` if there is none."""
        return next((pending.deadline for pending in self._all), None)

    def expired(self, now: float) -> list[PendingConnection]:
        """Return those whose time is up."""
        found = []
        for pending in self._all:
            if pending.deadline > now:
                break
            found.append(pending)
        return found

"""The location of a server: for the client, which has reached its command port, and for other nodes.

Behind a router or an ssh forward, a server has other addresses and ports outside than inside. So there are three
descriptions of it, and none is right for everyone:

* the user's, such as ``gate:22502/22501``, which is right for the client;
* the server's own: the addresses of its interfaces, and the ports that it listens on;
* its administrator's (``--advertise``), which is right outside.

A wrong place does no harm: a node there cannot present the right certificate, so the next place is tried. The command
port of a server accepts data connections, too; it is the last place, for networks in which no other port is open.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pconnect.errors import ConnectionLostError
from pconnect.link.host_names import Host
from pconnect.link.local_link import LocalAddress, read_address
from pconnect.link.race import Place

_MAX_TOLD = 64  # limit for addresses and for advertised places: each may cost every other node an attempt
_ID_LETTERS = 32


class Location(NamedTuple):
    """The addresses and ports of a server."""

    address: str  #: the one the client has reached; or the path of a Unix socket, with all ports 0
    cmd_port: int  #: likewise
    data_port: int  #: where the client expects data connections to be accepted, on `address`
    told: Sequence[str] = ()  #: the addresses that it reports for its machine
    local: LocalAddress | None = None  #: where it accepts connections of its own account; ``None``: nowhere
    told_ports: tuple[int, int] | None = None  #: the ports that it reports: command port, data port
    advertised: Sequence[
        tuple[str, int, int]
    ] = ()  #: hosts with both ports where other machines reach it, as it reports
    proven: Place | None = None  #: where the client has reached its data port, or a substitute for it
    id: str = ""  #: the server's own id; empty if it reports none

    @classmethod
    def of_offer(cls, address: str, host: Host, offer: Mapping[str, Any]) -> "Location":
        """Return the location of a server that was reached at `address`, named `host`, and made this offer.

        Raises `ConnectionLostError` if the offer is invalid.
        """
        local = read_address(offer.get("local"))
        if host.is_socket:
            return cls(address, 0, 0, [], local, id=id_of(offer))
        told, advertised = offer["addresses"], offer.get("advertised", [])
        cmd_port, data_port = offer.get("cmd_port", host.port), offer["data_port"]
        if not (
            _is_list(told, lambda each: isinstance(each, str))
            and _is_list(advertised, _is_advertised)
            and _is_port(cmd_port)
            and _is_port(data_port)
        ):
            raise ConnectionLostError(
                "the server sent an invalid offer: its addresses or ports are malformed"
            )
        found = [(str(name), int(cmd), int(data)) for name, cmd, data in advertised]
        own = host.data_port or _outer_data_port(address, host.port, told, (cmd_port, data_port), found)
        ports = cmd_port, data_port
        return cls(address, host.port, own, told, local, ports, found, id=id_of(offer))

    @property
    def server(self) -> Place:
        """Identifies the server in a network: other servers may share its address, but not this port."""
        return self.address, self.cmd_port

    @property
    def addresses(self) -> list[str]:
        """All its addresses, the one that the client used first. Empty if it listens on Unix sockets only."""
        return list(dict.fromkeys([self.address, *self.told])) if self.cmd_port else []

    @property
    def used_port(self) -> int:
        """The port that data arrives through, as far as is known."""
        return self.data_port if self.proven is None else self.proven[1]

    @property
    def falls_back(self) -> bool:
        """Whether data arrives through the command port, because the data port was not reachable."""
        return self.proven == self.server and self.data_port != self.cmd_port

    def places(self) -> list[Place]:
        """Return the places where the client dials data connections, best first.

        The last one is the command port, which let the client in. There are none if it listens on Unix sockets only.
        """
        if not self.cmd_port:
            return []
        _, told = self.told_ports or (0, self.data_port)
        ports = dict.fromkeys([self.data_port, told, self.cmd_port])
        found = [(self.address, port) for port in ports]
        return found if self.proven is None else list(dict.fromkeys([self.proven, *found]))

    def places_for_others(self) -> list[Place]:
        """Return the places where other nodes may find the server, best first.

        A loopback address leads other machines to themselves: it is last, unless there is no other.
        A server that listens on Unix sockets only has the path of one and port 0, which only local links can reach.
        """
        if not self.cmd_port:
            return [(self.address, 0)]
        cmd_port, data_port = self.told_ports or (self.cmd_port, self.data_port)
        seen, seen_cmd = (self.address, self.data_port), (self.address, self.cmd_port)
        own = [(address, data_port) for address in self.told]
        own_cmd = [(address, cmd_port) for address in self.told]
        advertised = [(name, data) for name, _, data in self.advertised]
        advertised_cmd = [(name, cmd) for name, cmd, _ in self.advertised]
        if own and is_loopback(self.address):
            places = [*advertised, *own, *advertised_cmd, *own_cmd, seen]
        else:
            places = [*advertised, seen, *own, *advertised_cmd, seen_cmd]
        return list(dict.fromkeys(places))


class HasLocation(Protocol):
    """A node whose location may change when it is reached in an unexpected way."""

    location: Location


def note_place(server: HasLocation, place: Place) -> None:
    """Remember where a server accepts data connections, so that the next ones go there first."""
    server.location = server.location._replace(proven=place)


def id_of(offer: Mapping[str, Any]) -> str:
    """Return the id in a server's offer; empty if there is none."""
    id_ = offer.get("server")
    return id_ if isinstance(id_, str) and len(id_) == _ID_LETTERS else ""


def is_loopback(address: str) -> bool:
    """Whether an address leads each machine to itself."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _outer_data_port(
    address: str,
    port: int,
    told: Sequence[str],
    ports: tuple[int, int],
    advertised: Sequence[tuple[str, int, int]],
) -> int:
    """Return the data port that belongs to the command port at the address that the client used."""
    cmd_port, data_port = ports
    if cmd_port == data_port:  # one port serves everything
        return port
    if address in told and port == cmd_port:
        return data_port
    return next((data for _, cmd, data in advertised if cmd == port), data_port)


def _is_list(value: Any, is_right: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MAX_TOLD and all(map(is_right, value))


def _is_port(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**16


def _is_advertised(value: Any) -> bool:
    match value:
        case [str(name), cmd_port, data_port]:
            return 0 < len(name) <= 255 and _is_port(cmd_port) and _is_port(data_port)
    return False

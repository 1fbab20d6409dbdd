"""The addresses of this machine at which other nodes may find a server."""

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

_SIOCGIFADDR = 0x8915  # netdevice(7)
_IF_INET6 = Path("/proc/net/if_inet6")


def own_addresses(bind: str | None) -> list[str]:
    """Return numeric addresses under which a server bound to `bind` can be reached, without loopback ones.

    Parameters
    ----------
    bind
        The address it listens at; ``None`` for all of this machine's.
    """
    if bind is not None:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(bind, None, type=socket.SOCK_STREAM)]
    else:
        found = [*_ipv4_addresses(), *_ipv6_addresses()]
    return [text for text in dict.fromkeys(found) if _is_useful(text)]


def _is_useful(text: str) -> bool:
    # A link-local address needs the name of an interface, which is another one at each machine.
    address = ipaddress.ip_address(text.partition("%")[0])
    return not (address.is_loopback or address.is_link_local or address.is_unspecified)


def _ipv4_addresses() -> list[str]:
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # an interface without an address
            found.append(socket.inet_ntoa(answer[20:24]))
    return found


def _ipv6_addresses() -> list[str]:
    if not _IF_INET6.exists():
        return []
    lines = _IF_INET6.read_text().splitlines()
    return [str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))) for line in lines]

"""The addresses of this machine at which other nodes may find a server, and who listens there."""

import ipaddress
import socket

import psutil


def own_addresses(bind: str | None) -> list[str]:
    """Return numeric addresses under which a server bound to `bind` can be reached, without loopback ones.

    `bind`: the address it listens at; ``None`` for all of this machine's, IPv4 first.
    """
    if bind is not None:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(bind, None, type=socket.SOCK_STREAM)]
    else:
        entries = [entry for each in psutil.net_if_addrs().values() for entry in each]
        found = [
            entry.address
            for family in (socket.AF_INET, socket.AF_INET6)
            for entry in entries
            if entry.family == family
        ]
    return [text for text in dict.fromkeys(found) if _is_useful(text)]


def listener_at(port: int) -> str | None:
    """Return who listens at a TCP port of this machine, for people; ``None`` if nobody does."""
    listening = (
        each
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port
    )
    found = next(listening, None)
    if found is None:
        return None
    try:
        return (
            f"{psutil.Process(found.pid).name()} (pid {found.pid})"
            if found.pid
            else "another account's process"
        )
    except psutil.Error:  # it has ended just now
        return f"the process {found.pid}"


def _is_useful(text: str) -> bool:
    # A link-local address needs the name of an interface, which is another one on each machine.
    address = ipaddress.ip_address(text.partition("%")[0])
    return not (address.is_loopback or address.is_link_local or address.is_unspecified)

"""Sockets that listen on the same port number of several addresses."""

import contextlib
import errno
import socket
from collections.abc import Sequence

from pserver.daemon.door.taken_ports import cannot_listen

_BACKLOG = 1024
_TRIES = 50  # to find a number that is free on each address


def listen_at(addresses: Sequence[str], port: int, option: str) -> list[socket.socket]:
    """Return a socket for each address, all with the same port number; without addresses, one socket for all.

    `port`: 0 picks a number that is free on each of them. `option`: the option that set the port, for errors.

    Raises `ConfigurationError` if the server cannot listen on one of them; all sockets are then closed.
    """
    tries_left = _TRIES
    while True:
        tries_left -= 1
        found: list[socket.socket] = []
        with contextlib.ExitStack() as stack:
            address, number = "", port
            try:
                for address in addresses or [""]:
                    found.append(stack.enter_context(_listener(address, number)))
                    number = found[-1].getsockname()[1]
            except OSError as error:
                # The system picked a number for the first address that is in use on another one: try again.
                if not port and found and error.errno == errno.EADDRINUSE and tries_left:
                    continue
                raise cannot_listen(address or None, number, option, error) from error
            stack.pop_all()
            return found


def _listener(address: str, port: int) -> socket.socket:
    if not address and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
    family, _, _, _, found = socket.getaddrinfo(
        address or "0.0.0.0",  # noqa: S104 - the user asked for all addresses
        port,
        type=socket.SOCK_STREAM,
    )[0]
    return socket.create_server(found[:2], family=family, backlog=_BACKLOG)

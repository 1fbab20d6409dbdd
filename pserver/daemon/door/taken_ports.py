"""Why a server cannot listen at a port, and what to do."""

import errno
import os
import shlex

from pserver.system.interfaces import listener_at
from pserver.system.pidfile import list_servers
from srp_tools.errors import ConfigurationError

_FREE_PORTS = (
    "--cmd-port 0 --data-port 0 takes free ones, which clients must then be told (pserver status has them)"
)
_KNOWN = (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL)
_HIGH_PORT = 1024  # those below are for root


def cannot_listen(bind: str | None, port: int, option: str, error: OSError) -> ConfigurationError:
    """Return the error of a server that cannot listen at an address, ``None`` for all, and a port."""
    # Python adds the address to some of them, which is in the text already.
    reason = os.strerror(error.errno) if error.errno in _KNOWN else error.strerror or str(error)
    place = f"cannot listen at {bind or 'all addresses'}, port {port} ({option}): {reason}"
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(f"{place}; {_who(port)}")
    if error.errno == errno.EACCES and port < _HIGH_PORT:
        return ConfigurationError(f"{place}; ports below {_HIGH_PORT} are for root, choose a higher one")
    return ConfigurationError(f"{place}; choose another address with --bind, or leave it out")


def _who(port: int) -> str:
    """Return who has a port, and what to do."""
    servers = (
        each for each in list_servers() if port in (each.status.get("cmd_port"), each.status.get("data_port"))
    )
    server = next(servers, None)
    if server is not None:
        name = shlex.quote(server.name)
        return (
            f"the server {server.name!r} (pid {server.pid}) listens there: end it with: pserver stop --name {name}; "
            f"or give this one a --name and ports of its own: {_FREE_PORTS}"
        )
    holder = listener_at(port)
    if holder is None:
        return f"choose another port: {_FREE_PORTS}"
    return f"{holder} listens there: end that program, or choose another port: {_FREE_PORTS}"

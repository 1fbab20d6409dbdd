"""The error of a server that cannot listen on a port, with advice."""

import errno
import os
import shlex

from pserver.system.interfaces import listener_at
from pserver.system.pidfile import list_servers
from srp_tools.errors import ConfigurationError

_FREE_PORTS = (
    "--cmd-port 0 --data-port 0 picks free ports; tell clients the command port, which pserver status shows"
)
_KNOWN = (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL)
_HIGH_PORT = 1024  # lower ports need root


def cannot_listen(bind: str | None, port: int, option: str, error: OSError) -> ConfigurationError:
    """Return the error of a server that cannot listen on a port of an address; `bind` ``None``: all addresses."""
    # Python adds the address to some messages, but ours already has it.
    reason = os.strerror(error.errno) if error.errno in _KNOWN else error.strerror or str(error)
    place = f"{option}: cannot listen on port {port} ({bind or 'all addresses'}): {reason}"
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(f"{place}; {_who(port)}")
    if error.errno == errno.EACCES and port < _HIGH_PORT:
        return ConfigurationError(f"{place}; ports below {_HIGH_PORT} need root: choose a higher port")
    return ConfigurationError(f"{place}; choose another address with --bind, or leave it out")


def _who(port: int) -> str:
    """Return which program uses a port, with advice."""
    servers = (
        each for each in list_servers() if port in (each.status.get("cmd_port"), each.status.get("data_port"))
    )
    server = next(servers, None)
    if server is not None:
        name = shlex.quote(server.name)
        return (
            f"the server {server.name!r} (pid {server.pid}) listens there: stop it with pserver stop --name {name}, "
            f"or give this server another --name and other ports: {_FREE_PORTS}"
        )
    holder = listener_at(port)
    if holder is None:
        return f"choose another port: {_FREE_PORTS}"
    return f"{holder} listens there: end that program, or choose another port: {_FREE_PORTS}"

"""The page at an address: parsing it, taking its port, and serving until the process is to end."""

import contextlib
import errno
import ipaddress
import re
import secrets
import socket
from typing import NamedTuple
from urllib.parse import quote

import uvicorn
from starlette.types import ASGIApp

from srp_tools.errors import ConfigurationError

DEFAULT_PORT = 12503
_MOST_CONNECTIONS = 128
_HEAD_BYTES = 16384  # of a request
_BRACKETED = re.compile(r"\[([^][]+)\](?::([0-9]+))?")


class Address(NamedTuple):
    """Where a page is to listen; without a port it is `DEFAULT_PORT`, or a free one where that is taken."""

    host: str = "127.0.0.1"
    port: int | None = None


def parse_address(text: str) -> Address:
    """Return the address that a text such as ``8080``, ``127.0.0.1:8080``, ``[::1]`` or ``::1`` means.

    Raises `ConfigurationError` if it is none. Names are none: whoever can change what they lead to would decide who
    reaches the page.

    Examples
    --------
    >>> parse_address("8080"), parse_address("[::1]:0"), parse_address("")
    (Address(host='127.0.0.1', port=8080), Address(host='::1', port=0), Address(host='127.0.0.1', port=None))
    """
    if text.isascii() and text.isdigit():
        host, port = "", text
    elif found := _BRACKETED.fullmatch(text):
        host, port = found[1], found[2] or ""
    elif text.count(":") == 1:
        host, port = text.split(":")
    else:
        host, port = text, ""
    host = "127.0.0.1" if host in {"", "localhost"} else host
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        if not port:
            return Address(host)
        if port.isascii() and port.isdigit() and int(port) <= 65535:
            return Address(host, int(port))
    raise ConfigurationError(
        f"{text!r} is no address for a page: give [ADDRESS:]PORT, such as 127.0.0.1:{DEFAULT_PORT}"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def listen(address: Address) -> socket.socket:
    """Return a socket that listens there.

    Raises `ConfigurationError` if the port cannot be had.
    """
    try:
        return _listen(address.host, DEFAULT_PORT if address.port is None else address.port)
    except OSError as error:
        if address.port is None and error.errno == errno.EADDRINUSE:
            return listen(address._replace(port=0))
        shown = f"{address.host}, port {address.port or DEFAULT_PORT}"
        raise ConfigurationError(f"the page cannot listen at {shown}: {error.strerror}") from error


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_MOST_CONNECTIONS)
    except BaseException:
        sock.close()
        raise
    return sock


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(32)


def url_of(sock: socket.socket, token: str) -> str:
    """Return the address of a page for a browser, with its token."""
    host, port = sock.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:  # that is no place to go to
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={quote(token, safe='')}"


def serve(app: ASGIApp, sock: socket.socket) -> None:
    """Serve an application at a socket until SIGTERM or SIGINT; closes it."""
    with sock:
        make_server(app).run(sockets=[sock])


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return what serves an application, with our limits."""
    config = uvicorn.Config(
        app,
        # Its addresses have the token: they are in no log.
        access_log=False,
        log_level="warning",
        server_header=False,
        # What a proxy says of the client makes no difference here, and nobody else is to say it.
        proxy_headers=False,
        ws="none",
        lifespan="off",
        limit_concurrency=_MOST_CONNECTIONS,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_graceful_shutdown=1,  # streams would go on for ever
    )
    return uvicorn.Server(config)

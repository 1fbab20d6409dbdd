"""Serve the page at an address: take its port and token, and run until the process should end."""

import asyncio
import errno
import ipaddress
import logging
import secrets
import socket
from urllib.parse import quote

import uvicorn
from starlette.types import ASGIApp

from pserver.config.page_options import DEFAULT_PORT, Address
from srp_tools.errors import ConfigurationError

_MOST_CONNECTIONS = 128
_HEAD_BYTES = 16384  # limit for the head of a request


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def listen(address: Address) -> socket.socket:
    """Return a socket that listens on an address.

    Raises `ConfigurationError` if the port is not available.
    """
    try:
        return _listen(address.host, DEFAULT_PORT if address.port is None else address.port)
    except OSError as error:
        if address.port is None and error.errno == errno.EADDRINUSE:
            return listen(address._replace(port=0))
        shown = f"port {address.port or DEFAULT_PORT} ({address.host})"
        raise ConfigurationError(f"the page cannot listen on {shown}: {error.strerror}") from error


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
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(32)


def url_of(sock: socket.socket, token: str) -> str:
    """Return the address of a page for a browser, with its token."""
    host, port = sock.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:  # a browser cannot connect to this address
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={quote(token, safe='')}"


def serve(app: ASGIApp, sock: socket.socket) -> None:
    """Serve an application on a socket until SIGTERM or SIGINT; then close the socket."""
    with sock:
        make_server(app).run(sockets=[sock])


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return a server for the application, with this package's limits."""
    config = uvicorn.Config(
        app,
        http="h11",  # the limit below applies to this implementation
        loop="asyncio",
        # An access log would contain the token, which is in the addresses.
        access_log=False,
        log_level="warning",
        server_header=False,
        # A proxy's headers about the client are not needed, and nobody else may forge them.
        proxy_headers=False,
        ws="none",
        lifespan="off",
        limit_concurrency=_MOST_CONNECTIONS,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_graceful_shutdown=1,  # streams would never end by themselves
    )
    logging.getLogger("uvicorn.error").addFilter(_is_worth_logging)
    return uvicorn.Server(config)


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Whether a record should be logged: not if it only reports a browser that was watching when the page ended."""
    kind = record.exc_info[0] if record.exc_info else None
    is_cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
    return not is_cancelled and "graceful shutdown exceeded" not in record.getMessage()

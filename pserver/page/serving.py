"""The page at an address: taking its port, its token, and serving until the process is to end."""

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
_HEAD_BYTES = 16384  # of a request


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
        http="h11",  # whose limit below holds
        loop="asyncio",
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
    logging.getLogger("uvicorn.error").addFilter(_is_no_stream_that_ends)
    return uvicorn.Server(config)


def _is_no_stream_that_ends(record: logging.LogRecord) -> bool:
    """Whether a record is about anything but a browser that was watching when the page ended."""
    kind = record.exc_info[0] if record.exc_info else None
    is_cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
    return not is_cancelled and "graceful shutdown exceeded" not in record.getMessage()

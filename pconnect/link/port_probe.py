"""Identify the service on a port where a login failed, so that the error can name the cause.

A server with encryption closes any connection that is not a login, without an answer. Other services do not know what a
login is. So the client sends a preamble without encryption and an empty line: a pserver answers the preamble on any
port, and most other services answer the line. The answer is only used in the text of the error, because anyone on the
network could have forged it.
"""

import contextlib
import re
import socket
from typing import NoReturn

from pconnect.errors import ConnectionLostError
from pconnect.link.dialing import connect_first
from pconnect.link.host_names import Host
from pconnect.protocol.frames import PREAMBLE_BYTES, PREAMBLE_MAGIC, Preamble, Purpose, check_first_word
from srp_tools.printable import printable_name
from srp_tools.steps import Steps, Wait, deadline_after, send_all

_SECONDS = 1.0  # services that answer do so immediately
_MAX_BYTES = 400
_MAX_SHOWN = 60

_SERVICES = (
    (re.compile(rb"SSH-"), "an SSH server"),
    (re.compile(rb"HTTP/|<!doctype html|<html", re.IGNORECASE), "a web server"),
    (re.compile(rb"[\x15\x16]\x03[\x00-\x04]"), "a TLS server that is not a pserver, perhaps a web server,"),
)
_GIVE = "give the command port of the pserver, as in HOST:12502; pserver status there shows it"


def raise_cause(
    error: Exception, answer: bytes, address: tuple[str, int], host: Host, *, use_tls: bool
) -> Steps[NoReturn]:
    """Raise an error that says why the login at an address failed with `error`, and what to do.

    `answer`: the answer to a preamble of the client, if there was one. Raises `ProtocolError` for a server of another
    version, otherwise `ConnectionLostError`.
    """
    heard = bytearray(answer)
    if not heard:
        with contextlib.suppress(OSError):
            sock = yield from connect_first([address], _SECONDS)
            with sock:
                with contextlib.suppress(OSError):  # it may have answered and closed its end
                    yield from send_all(sock, Preamble(Purpose.COMMAND).pack() + b"\r\n\r\n")
                yield from _listen(sock, heard)
    check_first_word(heard, "the server")
    raise ConnectionLostError(f"{describe(bytes(heard), host, use_tls=use_tls)} ({error})") from error


def _listen(sock: socket.socket, heard: bytearray) -> Steps[None]:
    """Append the answer to `heard`: its first bytes, or a whole preamble."""
    until = deadline_after(_SECONDS)
    while len(heard) < PREAMBLE_BYTES and PREAMBLE_MAGIC.startswith(heard[:4]):
        try:
            more = sock.recv(_MAX_BYTES)
        except BlockingIOError:
            yield Wait(sock.fileno(), until=until)
            continue
        if not more:
            break
        heard += more


def describe(heard: bytes, host: Host, *, use_tls: bool) -> str:
    """Return a description of the service that gave this answer, and what to do.

    `use_tls`: whether the client wants encryption. Raises `ProtocolError` for a preamble of another version.
    """
    if heard.startswith(PREAMBLE_MAGIC) and len(heard) >= PREAMBLE_BYTES:
        return _describe_pserver(Preamble.unpack(heard[:PREAMBLE_BYTES], "the server"), host, use_tls=use_tls)
    if not heard.strip():
        return (
            f"the service on port {host.port} does not answer clients of pserver: {_GIVE}; if that is the port, see "
            "the server's log, for example whether --allow-from excludes this address"
        )
    for pattern, service in _SERVICES:
        if pattern.match(heard):
            return f"{service} answers on port {host.port}{_quoted(heard)}: {_GIVE}"
    return f"another service answers on port {host.port}{_quoted(heard)}: {_GIVE}"


def _describe_pserver(answer: Preamble, host: Host, *, use_tls: bool) -> str:
    match answer.purpose:
        case Purpose.WRONG_PORT:
            name = f"[{host.name}]" if ":" in host.name else host.name
            return f"this is the data port of that pserver: give its command port, {name}:{answer.endpoint}"
        case Purpose.NEEDS_TLS if not use_tls:
            return "this server uses TLS: connect without use_tls=False"
        case Purpose.ACCEPTED if use_tls:
            return "that pserver has no encryption and no login: start it again without --no-tls"
    return "this is the command port of a pserver, which ended the login: see its log for the reason"


def _quoted(heard: bytes) -> str:
    """Return the first line of ASCII text in parentheses, or "" for other bytes."""
    line = heard.split(b"\n", 1)[0].rstrip()
    if not line.isascii() or b"\0" in line:
        return ""
    return f" ({printable_name(line[:_MAX_SHOWN].decode('ascii'))!r})"

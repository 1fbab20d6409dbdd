"""Names of servers: from the user's notation to socket addresses."""

import ipaddress
import math
import operator
import queue
import re
import socket
import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pconnect.errors import ConfigurationError
from srp_tools.steps import Steps, Wait

DEFAULT_CMD_PORT = 12502
# "gate:22502/22501", "[::1]:4001/4000"; text that only looks like a data port has its own error
_WITH_DATA_PORT = re.compile(r"([^/]*:[0-9]+)/([^/]*)")
_SOCKET = "unix:"  # before the path of a Unix socket
_MOST_ENGINES = 10_000  # for one entry, so that a typo does not use up all memory
Address = tuple[int, tuple[Any, ...]]  # family, and the argument of socket.connect


class Host(NamedTuple):
    """A server, as the user specified it."""

    label: str  #: the user's notation, for messages
    name: str  #: host name or address, or the path of a Unix socket, with port 0
    port: int  #: for logins
    data_port: int | None = None  #: for data, as seen from the client; ``None``: the server's own data port

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix socket on this machine."""
        return self.name.startswith("/")

    @property
    def ports_named(self) -> tuple[str, int] | tuple[str, int, int]:
        """The name and the ports that are known without asking the server."""
        name, port, data_port = self[1:]
        return (name, port) if data_port is None else (name, port, data_port)


def parse_hosts(hosts: object) -> list[Host]:
    """Return the hosts that `hosts` names, each repeated once per engine, in order.

    `hosts`: ``"name"``, ``"name:port"``, ``"[v6 address]:port"``, or, where a router or an ssh forward gives the data
    port another number, ``"name:port/data port"``. Each may be followed by ``*n`` for n engines. Also
    ``(name, port)``, ``(name, port, data port)``, ``"unix:/path"`` or a `Host`; a mapping of these to numbers of
    engines; or an iterable of all of these. Raises `ConfigurationError` for an invalid host; the message names it.

    Examples
    --------
    >>> [host.ports_named for host in parse_hosts(["hostA", "hostB:4000", "[::1]:4001", ("hostC", 4002), "fe80::1"])]
    [('hostA', 12502), ('hostB', 4000), ('::1', 4001), ('hostC', 4002), ('fe80::1', 12502)]
    >>> [host.ports_named for host in parse_hosts(["gate:22502/22501", "[::1]:4001/4000", ("gate", 22602, 22601)])]
    [('gate', 22502, 22501), ('::1', 4001, 4000), ('gate', 22602, 22601)]
    >>> [host.label for host in parse_hosts(["hostA*2", {("hostB", 4000): 1}])]
    ['hostA', 'hostA', 'hostB:4000']
    """
    if isinstance(hosts, Mapping):
        return [host for name, count in hosts.items() for host in [_parse(name)] * _engines(name, count)]
    if isinstance(hosts, str):
        name, star, count = hosts.partition("*")
        if star and (not name or name[-1:].isspace() or count[:1].isspace()):
            raise ConfigurationError(
                f"{hosts!r} is not the name of a host; write the number of engines without spaces, as in 'alpha*2'"
            )
        number = int(count) if re.fullmatch(r"[0-9]{1,9}", count) else count
        return [_parse(name)] * (_engines(hosts, number) if star else 1)
    if isinstance(hosts, Host) or _is_tuple(hosts):
        return [_parse(hosts)]
    if not isinstance(hosts, Iterable):
        raise ConfigurationError(f"hosts must be names or (name, port) pairs, not {hosts!r}")
    return [host for item in hosts for host in _parse_item(item)]


def _is_tuple(host: object) -> bool:
    """Whether this is a name with one or both ports."""
    return isinstance(host, tuple) and len(host) in {2, 3} and all(isinstance(port, int) for port in host[1:])


def _parse_item(item: object) -> list[Host]:
    return parse_hosts(item) if isinstance(item, str | Mapping) else [_parse(item)]


def _engines(host: object, count: object) -> int:
    try:
        number = operator.index(count)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1 or isinstance(count, bool):
        hint = "; write the port first, as in alpha:4000*2" if ":" in str(count) else ""
        raise ConfigurationError(
            f"{host!r}: the number of engines must be a whole number, 1 or more, not {count!r}{hint}"
        )
    if number > _MOST_ENGINES:
        raise ConfigurationError(
            f"{host!r}: the number of engines must be at most {_MOST_ENGINES}, not {number}"
        )
    return number


def _parse(host: object) -> Host:
    if isinstance(host, Host):
        return host
    if isinstance(host, str) and host.startswith(_SOCKET):
        return _parse_socket(host, host.removeprefix(_SOCKET))
    data_text: str | None = None
    if isinstance(host, tuple) and len(host) in {2, 3} and isinstance(host[0], str):
        if host[0].startswith("/"):  # from a token
            if host[1:] != (0,):
                raise ConfigurationError(f"{host!r} is not a host: a Unix socket has the port 0")
            return _parse_socket(f"{_SOCKET}{host[0]}", host[0])
        name, port_text, *data = host[0], *map(str, host[1:])
        data_text = data[0] if data else None
        label = f"{name}:{'/'.join([port_text, *data])}"
    elif isinstance(host, str):
        label = host
        found = _WITH_DATA_PORT.fullmatch(host)
        _refuse_other_forms(found[1] if found else host, host)
        name, port_text = _split(found[1] if found else host)
        data_text = found[2] if found else None
    else:
        raise ConfigurationError(f"a host must be a name or a (name, port) pair, not {host!r}")
    if name.isdecimal():
        raise ConfigurationError(f"{label!r} is not the name of a host; write a port as in 'alpha:12600'")
    if not name or any(c.isspace() for c in name):
        raise ConfigurationError(f"{label!r} is not the name of a host")
    port = _port(label, "port", port_text)
    return Host(label, name, port, None if data_text is None else _port(label, "data port", data_text))


def _parse_socket(label: str, path: str) -> Host:
    if not path.startswith("/") or "\0" in path or path.endswith("/"):
        raise ConfigurationError(
            f"{label!r}: give the full path of the socket after 'unix:', as pserver status shows it"
        )
    return Host(label, path, 0)


def _port(label: str, what: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ConfigurationError(f"{label!r}: the {what} must be a number from 1 to 65535")
    return int(text)


def _refuse_other_forms(text: str, whole: str) -> None:
    """Raise an error for forms that other programs accept, and say how to write them here."""
    user, at, host = whole.rpartition("@")
    if "/" in text:
        raise ConfigurationError(
            f"{text!r}: a host is a name or an address, optionally with :port, and not a URL"
        )
    if len(text.split()) > 1:
        raise ConfigurationError(
            f"{text!r} is not the name of a host; give several as a list, as in ['alpha', 'beta:4000']"
        )
    if "," in text or ";" in text:
        raise ConfigurationError(f"{text!r}: give several hosts as a list, as in ['alpha', 'beta:4000']")
    if at:
        raise ConfigurationError(
            f"{text!r}: give the user separately, as in pconnect({host!r}, user={user!r})"
        )
    if "*" in text:
        raise ConfigurationError(f"{text!r}: give the number of engines only once")


def _split(text: str) -> tuple[str, str]:
    default = str(DEFAULT_CMD_PORT)
    if text.startswith("["):
        name, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ConfigurationError(f"{text!r}: write an IPv6 address with a port as [address]:port")
        return name, rest[1:] or default
    if text.count(":") > 1:  # a bare IPv6 address
        return text, default
    name, colon, port = text.partition(":")
    return name, port if colon else default


def resolve(name: str, port: int, until: float = math.inf) -> Steps[list[Address]]:
    """Return the socket addresses of a host.

    The system's resolver has only a blocking call, with its own time limits, so a thread looks up the name and then
    ends. Numeric addresses need no thread.

    Raises `OSError` if the name is unknown or the name service does not answer, and `TimeoutError` if `until` (an
    instant) passes first.
    """
    flags = socket.AI_NUMERICSERV
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        pass
    else:
        found = socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM, 0, flags | socket.AI_NUMERICHOST)
        return [(family, address) for family, _, _, _, address in found]
    answers: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()
    reader, writer = socket.socketpair()

    def look_up() -> None:
        with writer:
            try:
                found = socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM, 0, flags)
                answers.put([(family, address) for family, _, _, _, address in found])
            except OSError as error:
                answers.put(error)
            except UnicodeError:
                answers.put(OSError(f"{name!r} is not the name of a host"))

    with reader:
        threading.Thread(target=look_up, name=f"resolve {name}", daemon=True).start()
        yield Wait(reader.fileno(), until=until)  # closing `writer` makes it readable
    answer = answers.get()
    if isinstance(answer, socket.gaierror):
        raise OSError(
            f"cannot resolve the name ({answer.strerror}): check it, or give an address"
        ) from answer
    if isinstance(answer, OSError):
        raise answer
    return answer

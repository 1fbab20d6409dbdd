"""The addresses that an administrator advertises for a server: hosts, with the ports that a router forwards to it."""

from collections.abc import Sequence

from pconnect.link.host_names import parse_hosts
from srp_tools.errors import ConfigurationError

_FORM = "write HOST, HOST:COMMAND-PORT or HOST:COMMAND-PORT:DATA-PORT, with an IPv6 address in brackets"
_MOST = 16


def parse_advertised(text: str) -> tuple[str, ...]:
    """Split a comma-separated list of addresses.

    Raises `ConfigurationError` if one of them is not valid.

    Examples
    --------
    >>> parse_advertised("gate.example.org:22502:22501, [2001:db8::1]")
    ('gate.example.org:22502:22501', '[2001:db8::1]')
    """
    found = tuple(part.strip() for part in text.split(","))
    for place in found:
        _place(place, 1, 1)
    return found


def check_advertised(advertised: Sequence[str]) -> None:
    """Raise `ConfigurationError`, which names the option, if an address is not valid or there are too many."""
    try:
        places_of(advertised, 1, 1)
    except ConfigurationError as error:
        raise ConfigurationError(f"--advertise {error}") from None
    if len(advertised) > _MOST:
        raise ConfigurationError(f"--advertise: {len(advertised)} addresses; give at most {_MOST}")


def places_of(advertised: Sequence[str], cmd_port: int, data_port: int) -> list[tuple[str, int, int]]:
    """Return the host, command port and data port of each address.

    `cmd_port` and `data_port` are the defaults for addresses without ports. Raises `ConfigurationError` if an address
    is not valid.

    Examples
    --------
    >>> places_of(["gate", "gate:22502", "[2001:db8::1]:22502:22501"], 12502, 12501)
    [('gate', 12502, 12501), ('gate', 22502, 12501), ('2001:db8::1', 22502, 22501)]
    """
    return [_place(text, cmd_port, data_port) for text in advertised]


def _place(text: str, cmd_port: int, data_port: int) -> tuple[str, int, int]:
    bracket = text.rfind("]") + 1
    if not bracket and text.count(":") > 2:
        raise ConfigurationError(f"{text!r}: {_FORM}")
    name, *ports = text[bracket:].split(":")
    if "/" in text or "*" in text or len(ports) > 2 or (bracket and name):
        raise ConfigurationError(f"{text!r}: {_FORM}")
    try:
        [host] = parse_hosts([":".join([text[:bracket] + name, *ports[:1]])])
        if len(ports) > 1:
            data_port = parse_hosts([f"{text[:bracket] + name}:{ports[1]}"])[0].port
    except ConfigurationError as error:
        named = str(error) if repr(text) in str(error) else f"{text!r}: {error}"
        raise ConfigurationError(f"{named}; {_FORM}") from None
    return host.name, host.port if ports else cmd_port, data_port

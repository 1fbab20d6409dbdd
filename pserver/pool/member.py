"""What a server says of itself to another, checked: the other end may say anything. No I/O here."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pconnect.link.host_names import DEFAULT_CMD_PORT, parse_hosts
from srp_tools.errors import ConfigurationError

#: Seconds for announcing a server everywhere, and what one answer to that has at most.
ROUND_SECONDS, ANSWER_BYTES = 20.0, 2**15
MOST_ADDRESSES = 16  #: of one server
_MOST_NAME = 64  # characters
_MOST_ADDRESS = 300  # characters: a name in the domain name system has 253
_MOST_SLOTS = 100_000
_ID = re.compile(r"[0-9a-f]{32}")


class Member(NamedTuple):
    """A server, as it describes itself."""

    id: str  #: random, 128 bits: which server it is, however it is reached
    name: str
    addresses: tuple[str, ...]  #: where it is reached, as hosts of `pconnect`, the best first
    slots: int

    def with_address(self, host: str, *, is_first: bool) -> "Member":
        """Return it with one more address, at which it was seen: before all others, or behind them.

        Raises `ConfigurationError` if that is no address: what is kept is checked again when it is read.
        """
        host = _address(host)
        others = [address for address in self.addresses if address != host][: MOST_ADDRESSES - 1]
        return self._replace(addresses=(host, *others) if is_first else (*others, host))

    def as_json(self) -> dict[str, object]:
        """Return what `read_member` reads."""
        return {"id": self.id, "name": self.name, "addresses": list(self.addresses), "slots": self.slots}


def read_member(words: Mapping[str, Any]) -> Member:
    """Return the server that some words describe.

    Raises `ConfigurationError` if they make no sense, or are too long; the text says which.
    """
    match words:
        case {"id": str(id_), "name": str(name), "addresses": [*addresses], "slots": int(slots)}:
            pass
        case _:
            raise ConfigurationError("an announcement has the id, name, addresses and slots of a server")
    if not _ID.fullmatch(id_):
        raise ConfigurationError(f"the id of a server has 32 hexadecimal digits, not {id_!r:.40}")
    if not 0 < len(name) <= _MOST_NAME or not name.isprintable():
        raise ConfigurationError(f"the name of a server has 1 to {_MOST_NAME} printable characters")
    if isinstance(slots, bool) or not 0 <= slots <= _MOST_SLOTS:
        raise ConfigurationError(f"a server has 0 to {_MOST_SLOTS} slots, not {slots!r:.20}")
    if len(addresses) > MOST_ADDRESSES:
        raise ConfigurationError(
            f"a server is announced with at most {MOST_ADDRESSES} addresses, not {len(addresses)}"
        )
    return Member(id_, name, tuple(map(_address, addresses)), slots)


def _address(text: object) -> str:
    if not isinstance(text, str) or len(text) > _MOST_ADDRESS or not text.isprintable():
        raise ConfigurationError(f"an address is a printable text of at most {_MOST_ADDRESS} characters")
    hosts = parse_hosts(text)
    if len(hosts) != 1 or "*" in text or hosts[0].is_socket:
        raise ConfigurationError(f"{text!r:.60} is not the address of one server")
    return text


def host_text(address: str, port: int) -> str:
    """Return a server as one writes it.

    Examples
    --------
    >>> host_text("10.0.0.1", 12502), host_text("10.0.0.1", 12600), host_text("fe80::1", 12502)
    ('10.0.0.1', '10.0.0.1:12600', '[fe80::1]')
    """
    shown = f"[{address}]" if ":" in address else address
    return shown if port == DEFAULT_CMD_PORT else f"{shown}:{port}"

"""A server's description of itself to another, with checks, because the other server may send anything. No I/O."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pconnect.link.host_names import DEFAULT_CMD_PORT, parse_hosts
from srp_tools.errors import ConfigurationError

#: Seconds for announcing a server everywhere, and the maximum length of an answer to that.
ROUND_SECONDS, ANSWER_BYTES = 20.0, 2**15
MOST_ADDRESSES = 16  #: addresses of one server
_MOST_NAME = 64  # characters
_MOST_ADDRESS = 300  # characters: a name in the domain name system has 253
_MOST_SLOTS = 100_000
_ID = re.compile(r"[0-9a-f]{32}")


class Member(NamedTuple):
    """A server, by its own description."""

    id: str  #: random, 128 bits: identifies the server, however it is reached
    name: str
    addresses: tuple[str, ...]  #: its addresses, as hosts of `pconnect`, the best first
    slots: int

    def with_address(self, host: str, *, is_first: bool) -> "Member":
        """Return a copy with an additional address, at which it was seen, either first or last.

        Raises `ConfigurationError` if that is not an address: stored members are checked again when they are read.
        """
        host = _address(host)
        others = [address for address in self.addresses if address != host][: MOST_ADDRESSES - 1]
        return self._replace(addresses=(host, *others) if is_first else (*others, host))

    def as_json(self) -> dict[str, object]:
        """Return the form that `read_member` reads."""
        return {"id": self.id, "name": self.name, "addresses": list(self.addresses), "slots": self.slots}


def read_member(words: Mapping[str, Any]) -> Member:
    """Return the server that an announcement describes.

    Raises `ConfigurationError` if the announcement makes no sense, or a part is too long; the text names the part.
    """
    match words:
        case {"id": str(id_), "name": str(name), "addresses": [*addresses], "slots": int(slots)}:
            pass
        case _:
            raise ConfigurationError(
                "an announcement must have the id, name, addresses and slots of a server"
            )
    if not _ID.fullmatch(id_):
        raise ConfigurationError(f"the id of a server must have 32 hexadecimal digits, not {id_!r:.40}")
    if not 0 < len(name) <= _MOST_NAME or not name.isprintable():
        raise ConfigurationError(f"the name of a server must have 1 to {_MOST_NAME} printable characters")
    if isinstance(slots, bool) or not 0 <= slots <= _MOST_SLOTS:
        raise ConfigurationError(f"a server must have 0 to {_MOST_SLOTS} slots, not {slots!r:.20}")
    if len(addresses) > MOST_ADDRESSES:
        raise ConfigurationError(
            f"a server may announce at most {MOST_ADDRESSES} addresses, not {len(addresses)}"
        )
    return Member(id_, name, tuple(map(_address, addresses)), slots)


def _address(text: object) -> str:
    if not isinstance(text, str) or len(text) > _MOST_ADDRESS or not text.isprintable():
        raise ConfigurationError(f"an address must be a printable text of at most {_MOST_ADDRESS} characters")
    hosts = parse_hosts(text)
    if len(hosts) != 1 or "*" in text or hosts[0].is_socket:
        raise ConfigurationError(f"{text!r:.60} is not the address of one server")
    return text


def host_text(address: str, port: int) -> str:
    """Return a server's address in the usual notation.

    Examples
    --------
    >>> host_text("10.0.0.1", 12502), host_text("10.0.0.1", 12600), host_text("fe80::1", 12502)
    ('10.0.0.1', '10.0.0.1:12600', '[fe80::1]')
    """
    shown = f"[{address}]" if ":" in address else address
    return shown if port == DEFAULT_CMD_PORT else f"{shown}:{port}"

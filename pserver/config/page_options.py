"""Whether a server shows itself on a page, and where that is."""

import contextlib
import ipaddress
import re
from dataclasses import dataclass
from typing import NamedTuple

from pserver.config.listen_options import FilePath
from pserver.config.option import OptionGroup, setting
from srp_tools.errors import ConfigurationError

DEFAULT_PORT = 12503
_LOOPBACK = "127.0.0.1"
_BRACKETED = re.compile(r"\[([^][]+)\](?::([0-9]+))?")


class Address(NamedTuple):
    """Where a page is to listen; without a port it is `DEFAULT_PORT`, or a free one where that is taken."""

    host: str = _LOOPBACK
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
    host = _LOOPBACK if host in {"", "localhost"} else host
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        if not port:
            return Address(host)
        if port.isascii() and port.isdigit() and int(port) <= 65535:
            return Address(host, int(port))
    raise ConfigurationError(
        f"{text!r} is no address for a page: give [ADDRESS:]PORT, such as {_LOOPBACK}:{DEFAULT_PORT}"
    )


def page_address(text: str) -> str:
    """Return a text that `parse_address` understands; raise `ConfigurationError` if it does not."""
    parse_address(text)
    return text


@dataclass(frozen=True, kw_only=True)
class PageOptions(OptionGroup):
    """Those settings of a server that concern its page."""

    status_page: str | None = setting(
        None,
        "Show the server on a page in the browser, which pserver status gives the address of. Without an address it is "
        f"at the loopback interface, port {DEFAULT_PORT}, or a free one where that is taken.",
        "[ADDRESS:]PORT",
        parse=page_address,
        bare="",
        default_text="no page",
    )
    status_page_token: FilePath | None = setting(
        None,
        "A private file with the token of that page, at least 16 characters.",
        "FILE",
        default_text="a new token at each start",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            parse_address(self.status_page or "")
        except ConfigurationError as error:
            raise ConfigurationError(f"--status-page: {error}") from None

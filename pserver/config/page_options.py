"""The settings of a server's status page."""

import argparse
import contextlib
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pserver.config.listen_options import FilePath
from pserver.config.option import OptionGroup, setting
from srp_tools.errors import ConfigurationError
from srp_tools.private_files import read_private

DEFAULT_PORT = 12503
PACKAGES = ("starlette", "uvicorn", "prometheus_client")  #: that a page needs; the extra installs them
_LOOPBACK = "127.0.0.1"
_LEAST_TOKEN, _MOST_TOKEN_BYTES = 16, 1024
_BRACKETED = re.compile(r"\[([^][]+)\](?::([0-9]+))?")


class Address(NamedTuple):
    """The address that a page listens on; without a port, `DEFAULT_PORT`, or a free port if that is taken."""

    host: str = _LOOPBACK
    port: int | None = None


def parse_address(text: str) -> Address:
    """Parse an address such as ``8080``, ``127.0.0.1:8080``, ``[::1]`` or ``::1``.

    Raises `ConfigurationError` for anything else, host names included: anyone who can change what a name resolves to
    could make the page reachable for others.

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
        f"{text!r} is not an address for a page: give [ADDRESS:]PORT, such as {_LOOPBACK}:{DEFAULT_PORT}"
    )


def page_address(text: str) -> str:
    """Return the text unchanged if `parse_address` accepts it; else raise `ConfigurationError`."""
    parse_address(text)
    return text


def read_token(path: Path) -> str:
    """Read the token in a private file.

    Raises `CredentialError` if the file does not exist or other users can read it, and `ConfigurationError` if the
    token is too easy to guess.
    """
    token = read_private(path, _MOST_TOKEN_BYTES).strip()
    if len(token) < _LEAST_TOKEN or not all("!" <= each <= "~" for each in token):
        raise ConfigurationError(
            f"{path}: a token needs at least {_LEAST_TOKEN} printable ASCII characters, without spaces; make one with "
            "python3 -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


def add_page_options(parser: argparse._ActionsContainer) -> None:
    """Add the options of a command that shows servers on a page: ``serve``, ``page_host`` and ``token_file``."""
    serve_help = (
        "show the servers on a page in the browser, until Ctrl-C; by default on the loopback address, port "
        f"{DEFAULT_PORT}, or a free port if that is taken"
    )
    add = parser.add_argument
    add("--serve", nargs="?", const=Address(), type=_address, metavar="[ADDRESS:]PORT", help=serve_help)
    host_help = "with --serve: another host name of this machine, for example behind a proxy; may be repeated"
    add("--page-host", action="append", default=[], metavar="NAME", help=host_help)
    file_help = "with --serve: a private file with the token; default: a new token each time"
    add("--token-file", type=Path, metavar="FILE", help=file_help)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class PageOptions(OptionGroup):
    """The settings of a server's status page."""

    status_page: str | None = setting(
        None,
        "Show the server on a page in the browser; pserver status prints its address. The default is the loopback "
        f"address, port {DEFAULT_PORT}, or a free port if that is taken.",
        "[ADDRESS:]PORT",
        parse=page_address,
        bare="",
        default_text="no page",
    )
    status_page_token: FilePath | None = setting(
        None,
        "A private file with the token of the page, at least 16 characters.",
        "FILE",
        default_text="a new token each time the server starts",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            parse_address(self.status_page or "")
        except ConfigurationError as error:
            raise ConfigurationError(f"--status-page: {error}") from None

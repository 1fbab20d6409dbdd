"""The options of a command that shows servers on a page, and the command itself: ``pstat --serve``."""

import argparse
import sys
from pathlib import Path

from pserver.config.page_options import DEFAULT_PORT, Address, parse_address
from pserver.page.application import make_application
from pserver.page.serving import is_loopback, listen, new_token, read_token, serve, url_of
from pserver.page.source import Source
from srp_tools.errors import ConfigurationError


def add_page_options(parser: argparse._ActionsContainer) -> None:
    """Add them; the destinations are ``serve``, ``page_host`` and ``token_file``."""
    serve_help = (
        "show the servers on a page in the browser, until Ctrl-C; by default at the loopback interface, port "
        f"{DEFAULT_PORT}, or a free one where that is taken"
    )
    add = parser.add_argument
    add("--serve", nargs="?", const=Address(), type=_address, metavar="[ADDRESS:]PORT", help=serve_help)
    host_help = "with --serve: another name that leads to this machine, as behind a proxy; several options give several"
    add("--page-host", action="append", default=[], metavar="NAME", help=host_help)
    file_help = "with --serve: a private file with the token; default: a new token each time"
    add("--token-file", type=Path, metavar="FILE", help=file_help)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def serve_page(source: Source, options: argparse.Namespace) -> int:
    """Show a source on a page until Ctrl-C, as the options say; return the exit status.

    Raises `ConfigurationError` if the port cannot be had or the token cannot be used.
    """
    token = read_token(options.token_file) if options.token_file else new_token()
    sock = listen(options.serve)
    host = sock.getsockname()[0]
    app = make_application(source, token, names=[host, *options.page_host])
    print(f"The page is at {url_of(sock, token)}", flush=True)
    if not is_loopback(host):
        print(
            f"pstat: WARNING: {host} can be reached from other machines, and nothing on the way is encrypted: whoever "
            "reads it has the token. Better keep the page at the loopback interface, and go there with ssh -L.",
            file=sys.stderr,
        )
    serve(app, sock)
    return 0

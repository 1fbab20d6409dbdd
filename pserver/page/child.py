"""The process that serves the page of one server: a child of its daemon, with no more rights than any local client.

It sends requests to the control socket, runs no user code, and has no secret but its token. The daemon holds the other
end of a socket: there this process reports its address, or why it cannot listen. It exits with the daemon.
"""

import argparse
import contextlib
import json
import logging
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from pserver.config.page_options import parse_address, read_token
from pserver.ctl.sources import OwnServers
from pserver.page.address_file import address_shown
from pserver.page.application import make_application
from pserver.page.asked_servers import AskedServers
from pserver.page.serving import listen, new_token, serve, url_of
from pserver.system.clean_start import hold_warnings
from pserver.system.processes import die_with_parent, name_process, set_title
from srp_tools.errors import ParallelError


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the daemon exits; see the module."""
    hold_warnings()
    die_with_parent()
    options = _parser().parse_args(arguments)
    name_process("page")
    set_title(f"page {options.name}")
    logging.basicConfig(level=logging.WARNING, format="pserver page: %(message)s")
    with socket.socket(fileno=options.daemon_fd) as daemon:
        try:
            token = read_token(Path(options.token_file)) if options.token_file else new_token()
            sock = listen(parse_address(options.address))
        except (ParallelError, OSError) as error:
            _tell(daemon, {"error": str(error)})
            sys.exit(1)
        url = url_of(sock, token)
        source = AskedServers(OwnServers(options.name))
        app = make_application(source, token, names=[sock.getsockname()[0], *options.host])
        with address_shown(options.name, url):
            _tell(daemon, {"at": url.partition("?")[0]})
            serve(app, sock)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pserver.page.child")
    parser.add_argument("--name", required=True)
    parser.add_argument("--address", default="")
    parser.add_argument("--token-file")
    parser.add_argument("--host", action="append", default=[])
    parser.add_argument("--daemon-fd", type=int, required=True)
    return parser


def _tell(daemon: socket.socket, words: dict[str, str]) -> None:
    with contextlib.suppress(OSError):  # the daemon is about to exit, and so is this process
        daemon.sendall(json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    main()

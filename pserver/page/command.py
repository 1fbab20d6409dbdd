"""The command that shows servers on a page until Ctrl-C: ``pstat --serve``."""

import argparse
import sys

from pserver.config.page_options import read_token
from pserver.page.application import make_application
from pserver.page.serving import is_loopback, listen, new_token, serve, url_of
from pserver.page.source import Source


def serve_page(source: Source, options: argparse.Namespace) -> int:
    """Show a source on a page until Ctrl-C; return the exit status.

    `options`: see `pserver.config.page_options.add_page_options`.

    Raises `ConfigurationError` if the port is not available or the token is invalid.
    """
    token = read_token(options.token_file) if options.token_file else new_token()
    sock = listen(options.serve)
    host = sock.getsockname()[0]
    app = make_application(source, token, names=[host, *options.page_host])
    print(f"The page is at {url_of(sock, token)}", flush=True)
    if not is_loopback(host):
        print(
            f"pstat: WARNING: other machines can reach {host}, and the connection is not encrypted: anyone who can "
            "read the traffic gets the token. It is safer to serve the page on the loopback interface and to reach it "
            "with ssh -L.",
            file=sys.stderr,
        )
    serve(app, sock)
    return 0

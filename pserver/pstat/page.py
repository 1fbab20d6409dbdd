"""``pstat --serve``: the same servers as `pstat` shows, as a page."""

import argparse

from pserver.ctl.sources import Source
from pserver.page.asked_servers import AskedServers
from pserver.page.command import serve_page
from srp_tools.errors import ConfigurationError


def serve(source: Source | None, options: argparse.Namespace) -> int:
    """Show servers until Ctrl-C; `source`: ``None`` if there are none.

    Raises `ConfigurationError` without servers, or if the page cannot be served.
    """
    if source is None:
        raise ConfigurationError(
            "no server of this account is running here, and no hosts are configured; give hosts: pstat --serve 0 alpha"
        )
    try:
        return serve_page(AskedServers(source), options)
    finally:
        source.close()

"""The page of the servers that `pstat` would show: ``pstat --serve``."""

import argparse
from collections.abc import Sequence

from pserver.admin.remote_control import ask_at
from pserver.page.asked_servers import AskedServers
from pserver.page.command import serve_page
from pserver.page.own_servers import OwnServers
from pserver.page.source import Source
from pserver.pstat.logins import Hosts, configured_hosts
from pserver.system.pidfile import list_servers
from srp_tools.errors import ConfigurationError

_STOP_SECONDS = 10.0


def serve(hosts: Sequence[str], user: str | None, options: argparse.Namespace) -> int:
    """Show servers until Ctrl-C: those at hosts, or else those of this account here, or of the configuration.

    Raises `ConfigurationError` if there are none, or the page cannot be shown.
    """
    logins = None if not hosts and list_servers() else configured_hosts(hosts, user)
    if logins is None and not list_servers():
        raise ConfigurationError(
            "no server of this account is running here, and no hosts are configured; name hosts: pstat --serve 0 alpha"
        )
    try:
        return serve_page(page_source(logins, user), options)
    finally:
        if logins is not None:
            logins.close()


def page_source(logins: Hosts | None, user: str | None) -> Source:
    """Return the source of the page; `logins`: the hosts to log in to, ``None``: the servers of this account here."""
    if logins is None:
        return OwnServers()

    def stop(key: str, session: int) -> str:
        told = ask_at(key, user, {"do": "kill", "what": str(session)}, _STOP_SECONDS)
        ended = [f"{each['session']} of {each['user']}" for each in told["killed"]]
        return f"Ended session {', '.join(ended)}."

    return AskedServers(logins.ask, stop)

"""Administer a server on another machine: log in like any client, to a session without an engine."""

import os
from collections.abc import Mapping
from typing import Any

from pconnect.errors import AuthenticationError
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT
from pconnect.link.host_names import parse_hosts
from pconnect.protocol.frames import Limits
from pconnect.session.login import find_credentials, make_terms, open_control
from pserver.ctl.elsewhere import request_over
from srp_tools.errors import ConfigurationError
from srp_tools.steps import deadline_after, run


def ask_at(host: str, user: str | None, request: Mapping[str, object], seconds: float) -> dict[str, Any]:
    """Send a request to the server at a host, as one of its administrators; return the answer.

    The password comes from the same places as for `pconnect`. Raises `ConfigurationError` if the server refuses the
    request, and the errors of a login.
    """
    hosts = [] if "," in host else parse_hosts(host)
    if len(hosts) != 1:
        raise ConfigurationError(f"--host {host}: give exactly one server")
    credentials = find_credentials(user, None, os.environ.get("PCONNECT_CREDENTIALS") or None)
    terms = make_terms(credentials, Limits(), DEFAULT_PEER_TIMEOUT, local_links=False)
    deadline = deadline_after(seconds)
    try:
        channel, _ = run(open_control(hosts[0], terms), deadline)
    except AuthenticationError as refusal:
        hint = "if root started the server, an administrator needs a Unix account there, like every user"
        raise AuthenticationError(f"{host}: {refusal}; {hint}") from refusal
    try:
        return run(request_over(channel, request, host), deadline)
    finally:
        channel.close()

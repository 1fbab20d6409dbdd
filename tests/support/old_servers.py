"""A login to a server that speaks another version, without a real server."""

from typing import Any

from pconnect.errors import ProtocolError
from pconnect.link.host_names import Host
from pconnect.session.login import log_in_at
from pconnect.session.server import Server as NodeOnClient
from srp_tools.steps import Steps
from tests.support.servers import Server


def old_at(old: Server) -> Any:
    """Return a replacement for `log_in_at` that behaves differently for one server."""

    def log_in(host: Host, *args: Any) -> Steps[NodeOnClient]:
        if host.label == old.host:
            raise ProtocolError("it speaks version 1")
        return (yield from log_in_at(host, *args))

    return log_in

"""False announcements with a member's password."""

from typing import Any

from pconnect.link.host_names import parse_hosts
from pconnect.protocol.frames import Limits
from pconnect.session.login import make_terms, open_control
from pserver.ctl.elsewhere import request_over
from srp_tools.credentials import load_member
from srp_tools.errors import ConfigurationError
from srp_tools.steps import deadline_after, run
from tests.support.servers import Server
from tests.support.waiting import DEADLINE

WORDS = {
    "do": "announce",
    "addresses": [],
    "slots": 2,
    "interval": 30,
    "at": 1.0,
    "id": "66" * 16,
    "name": "x",
    "cmd_port": 1,
    "secret": "66" * 32,
}


def announce(server: Server, **words: object) -> dict[str, Any]:
    """Send a message to a server as a member whose file is beside its users' file; return the answer."""
    deadline = deadline_after(DEADLINE)
    terms = make_terms(load_member(server.member_path), Limits(), DEADLINE, local_links=False)
    channel, _ = run(open_control(parse_hosts(server.host)[0], terms), deadline)
    try:
        return run(request_over(channel, {**WORDS, **words}, server.host), deadline)
    except ConfigurationError as error:
        return {"error": str(error)}
    finally:
        channel.close()

r"""Audit lines of the log: successful, failed and refused logins, and their usage, in a fixed format for programs.

.. code-block:: text

    audit login from 192.0.2.1 port 51234 user="alice" session=4711 node=1 network=0f…
    audit failed-login from 192.0.2.1 port 51234 user="alice" reason="unknown user or wrong password"
    audit refused from 192.0.2.1 port 51234 user="alice" reason="too many clients want to log in"
    audit session-end from 192.0.2.1 port 51234 user="alice" session=4711 commands=5 jobs=0 received=8120 sent=911 \
        seconds=12.5 how="the network was closed"
    audit control from 192.0.2.1 port 51234 user="alice" what="{\"do\": \"kill\", …}" outcome="done"

The address comes before everything that the peer has sent, and everything from the peer is in quotes, as in JSON with
ASCII only. No name can therefore pose as an address. `peer` is the daemon's text for an address.
"""

import json
import logging
from collections.abc import Mapping, Sequence

from pserver.logbook.fields import Field, write
from pserver.system.log import AUDIT

_log = logging.getLogger(AUDIT)
_log.setLevel(logging.INFO)  # audit lines appear whatever the level of the log

#: The reason for most failed logins: the same text for both cases, also in the log, which other people may read.
REFUSED = "unknown user or wrong password"


def login(peer: str, user: str, session: int, node: int, network: str) -> None:
    """Record that a client was admitted for a node."""
    _write(logging.INFO, "login", peer, user=user, session=session, node=node, network=network)


def failed_login(peer: str, user: str, reason: str) -> None:
    """Record a failed login."""
    _write(logging.WARNING, "failed-login", peer, user=user, reason=reason)


def refused(peer: str, user: str | None, reason: str) -> None:
    """Record that a client was refused, before its login or despite the right password.

    `user`: the name that the client gave, if any.
    """
    named: dict[str, Field] = {} if user is None else {"user": user}
    _write(logging.WARNING, "refused", peer, **named, reason=reason)


def session_end(
    peer: str, user: str, session: int, *, usage: Sequence[int], seconds: float, how: str
) -> None:
    """Record the end of a session that had logged in; `usage`: commands, jobs, bytes received and sent."""
    used = dict(zip(("commands", "jobs", "received", "sent"), usage, strict=True))
    _write(
        logging.INFO, "session-end", peer, user=user, session=session, **used, seconds=float(seconds), how=how
    )


def control(peer: str, user: str, request: Mapping[str, object], outcome: str) -> None:
    """Record a request to administer the server, and its outcome."""
    _write(logging.INFO, "control", peer, user=user, what=json.dumps(dict(request)), outcome=outcome)


def _write(level: int, event: str, peer: str, **fields: Field) -> None:
    address, _, port = peer.rpartition(" port ")
    known = address and port.isdecimal()
    place: dict[str, Field] = {"address": address, "port": int(port)} if known else {"from": peer}
    write(_log, level, (f"audit {event} from %s", peer), fields, {"event": event, **place})

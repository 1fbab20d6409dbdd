r"""Lines of the log that say who came in, who did not, and what was used, in one fixed form for programs.

.. code-block:: text

    audit login from 192.0.2.1 port 51234 user="alice" session=4711 node=1 network=0f…
    audit failed-login from 192.0.2.1 port 51234 user="alice" reason="unknown user or wrong password"
    audit refused from 192.0.2.1 port 51234 user="alice" reason="too many clients want to log in"
    audit session-end from 192.0.2.1 port 51234 user="alice" session=4711 commands=5 jobs=0 received=8120 sent=911 \
        seconds=12.5 how="the network was closed"

The address comes before everything that a peer has said, and what a peer has said stands in quotes, as in JSON with
ASCII only: so no name can pose as an address. `peer` is the text that the daemon has made of an address.
"""

import json
import logging
from collections.abc import Sequence

from pserver.system.log import AUDIT

_log = logging.getLogger(AUDIT)

# Longer names are nobody's, and only fill the log. A reason may have a path and what to do.
_MAX_NAME = 100
_MAX_REASON = 400
#: Why most logins fail; the same words for both, also in the log, which others may read.
REFUSED = "unknown user or wrong password"


def login(peer: str, user: str, session: int, node: int, network: str) -> None:
    """Record that a client was admitted for a node."""
    _log.info(
        "audit login from %s user=%s session=%d node=%d network=%s",
        peer,
        _quoted(user),
        session,
        node,
        network,
    )


def failed_login(peer: str, user: str, reason: str) -> None:
    """Record that a login has failed."""
    _log.warning(
        "audit failed-login from %s user=%s reason=%s", peer, _quoted(user), _quoted(reason, _MAX_REASON)
    )


def refused(peer: str, user: str | None, reason: str) -> None:
    """Record that a client was turned away, before its login or though it knows the password.

    `user`: as it has said, if it has.
    """
    name = "" if user is None else f" user={_quoted(user)}"
    _log.warning("audit refused from %s%s reason=%s", peer, name, _quoted(reason, _MAX_REASON))


def session_end(
    peer: str, user: str, session: int, *, usage: Sequence[int], seconds: float, how: str
) -> None:
    """Record the end of a session that had logged in; `usage`: commands, jobs, bytes received and sent."""
    used = "commands=%d jobs=%d received=%d sent=%d seconds=%.1f"
    template = f"audit session-end from %s user=%s session=%d {used} how=%s"
    _log.info(template, peer, _quoted(user), session, *usage, seconds, _quoted(how, _MAX_REASON))


def _quoted(text: str, limit: int = _MAX_NAME) -> str:
    shown = text if len(text) <= limit else text[:limit] + "…"
    return json.dumps(shown).replace("\x7f", "\\u007f")

"""Passes on the connections of clients that log in again and return to their former sessions.

The process that performed the new login names the user. It runs no user code, and if root started the server, it was
started for that user alone.
"""

import contextlib
import hmac
import logging
import os
import socket
from collections.abc import Mapping, Sequence

from pserver.daemon.held_session import LoginFailure, Node
from pserver.orphans.answers import TAKEN, not_taken
from pserver.system import audit

log = logging.getLogger("pserver")

_JOINS = 2  # the index of the handover socket for command channels
_CAME_BACK = "it has come back to its session"


def give_back(
    login: Node, words: Mapping[str, object], data: bytes, end: int, candidates: Sequence[Node]
) -> None:
    """Pass a client's connection to its former session, and answer the session of the new login.

    `login`: the node of the new login. `words`: its report about the client. `data`: the whole message. `end`: a
    descriptor of the connection. `candidates`: nodes with the number and network in the report.
    """
    try:
        answer = _pass_on(login, words, data, end, candidates)
    finally:
        os.close(end)
    with contextlib.suppress(OSError):
        login.control.send(answer)


def _pass_on(
    login: Node, words: Mapping[str, object], data: bytes, end: int, candidates: Sequence[Node]
) -> bytes:
    user, key = words.get("user"), words.get("key")
    if not (isinstance(user, str) and isinstance(key, str)) or login.session.claimed not in {None, user}:
        log.error("session %d sent an invalid report about a client: %.200r", login.session.pid, data)
        return not_taken("the server does not understand its own session")
    node = next((node for node in candidates if _is_of(node, user, key)), None)
    if node is None:
        return not_taken("")  # the same answer if the session does not exist and if it is another user's
    try:
        socket.send_fds(node.handovers[_JOINS], [data], [end])
    except OSError as error:
        return not_taken(f"its session does not accept it: {error.strerror}")
    # For the counts of failed logins, the password was right. The process of the new login gets no session.
    login.session.failure = LoginFailure(user, _CAME_BACK, is_refused=False, has_proved=True)
    audit.login(login.session.peer, user, node.session.pid, node.number, node.session.network or "")
    return TAKEN


def _is_of(node: Node, user: str, key: str) -> bool:
    held = node.session.check.key.hex().encode()
    return hmac.compare_digest(held, key.encode()) and node.session.user == user

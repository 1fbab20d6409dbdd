"""Clients that have logged in and come back to a session of theirs: the daemon passes their connections on.

The process in which such a client has logged in says which user it is. It runs no code of users; and under a server of
root it was started for that user alone.
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

_JOINS = 2  # which of the ends of a node takes command channels
_CAME_BACK = "it has come back to its session"


def give_back(
    login: Node, words: Mapping[str, object], data: bytes, end: int, candidates: Sequence[Node]
) -> None:
    """Give the connection of a client to its former session, and answer the one in which it has logged in.

    `login`: where it has logged in. `words`: what that says of it. `data`: the whole message. `end`: a descriptor of
    the connection. `candidates`: nodes of the number and network that it names.
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
        log.error("session %d says of a client what makes no sense: %.200r", login.session.pid, data)
        return not_taken("the server does not understand its own session")
    node = next((node for node in candidates if _is_of(node, user, key)), None)
    if node is None:
        return not_taken("")  # the same, whether there is none, or that of another user
    try:
        socket.send_fds(node.handovers[_JOINS], [data], [end])
    except OSError as error:
        return not_taken(f"its session does not take it ({error.strerror})")
    # For those who count logins, the password was right; the process in which it was told has no session.
    login.session.failure = LoginFailure(user, _CAME_BACK, is_refused=False, has_proved=True)
    audit.login(login.session.peer, user, node.session.pid, node.number, node.session.network or "")
    return TAKEN


def _is_of(node: Node, user: str, key: str) -> bool:
    held = node.session.check.key.hex().encode()
    return hmac.compare_digest(held, key.encode()) and node.session.user == user

"""The process that announces a server to others: the daemon itself runs no TLS and never waits for a peer.

The starter forks one process for each round, see `pserver.daemon.pool.announcing`. It logs in to each host as a member,
sends the given announcement, passes the answers on to the daemon, and ends.
"""

import functools
import hmac
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pconnect.errors import ParallelError
from pconnect.link.attempt import Attempt
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT
from pconnect.link.host_names import parse_hosts
from pconnect.protocol.frames import Limits
from pconnect.session.login import LoginTerms, make_terms, open_control
from pserver.accounts.privileges import leave_root
from pserver.ctl.elsewhere import request_over
from pserver.pool.member import ANSWER_BYTES, MOST_ADDRESSES, ROUND_SECONDS, host_text
from pserver.system.interfaces import own_addresses
from srp_tools.credentials import load_member
from srp_tools.steps import Steps, deadline_after, run_all

_MAX_REASON = 300  # characters


@dataclass(frozen=True)
class Order:
    """The daemon's order for one round of announcements."""

    hosts: list[str]
    member_file: str
    words: dict[str, Any]  #: the request, without its addresses and the secret
    secret: str  #: the base of the secret for each server
    bind: list[str]
    cmd_port: int

    @classmethod
    def from_json(cls, words: Mapping[str, Any]) -> "Order":
        """Return the order from the `vars` of an `Order`."""
        return cls(**words)


def announce(end: socket.socket, order: Order) -> None:
    """Carry out an order. `end`: a socket for the answers, one JSON message for each host."""
    with end:
        try:
            terms = _terms(Path(order.member_file))
            words = {"addresses": _addresses(order), **order.words}
            # Load the modules for name lookup before this process becomes nobody, who may not be able to read them.
            "".encode("idna")
            if os.geteuid() == 0:
                leave_root()
        except (ParallelError, OSError) as error:
            for host in order.hosts:
                _send_answer(end, {"host": host, "error": str(error)})
            return
        attempts = {host: Attempt(parse_hosts(host)[0]) for host in order.hosts}
        tell = functools.partial(_announce_at, terms=terms, order=order, words=words, end=end)
        steps = {host: tell(host, attempt) for host, attempt in attempts.items()}
        for host, outcome in run_all(steps, deadline_after(ROUND_SECONDS)).items():
            if isinstance(outcome, Exception):
                _send_answer(end, {"host": host, "error": str(attempts[host].explain(outcome))})


def _terms(path: Path) -> LoginTerms:
    return make_terms(load_member(path), Limits(), DEFAULT_PEER_TIMEOUT, local_links=False)


def _addresses(order: Order) -> list[str]:
    return [host_text(each, order.cmd_port) for each in own_addresses(order.bind)][:MOST_ADDRESSES]


def _announce_at(
    text: str,
    attempt: Attempt,
    *,
    terms: LoginTerms,
    order: Order,
    words: Mapping[str, object],
    end: socket.socket,
) -> Steps[None]:
    channel, server = yield from open_control(parse_hosts(text)[0], terms, attempt)
    # Use a different secret for each server, so that no server can impersonate this one to others.
    secret = hmac.digest(bytes.fromhex(order.secret), server.encode(), "sha256").hex()
    try:
        facts = yield from request_over(channel, {**words, "secret": secret}, text)
    finally:
        channel.close()
    _send_answer(end, {"host": text, "ok": facts})  # send it now: another host may take long


def _send_answer(end: socket.socket, words: dict[str, object]) -> None:
    if isinstance(words.get("error"), str):
        words["error"] = str(words["error"])[:_MAX_REASON]
    data = json.dumps(words).encode()
    if len(data) > ANSWER_BYTES:
        data = json.dumps({"host": words["host"], "error": "its answer is too long"}).encode()
    end.send(data)

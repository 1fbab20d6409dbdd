"""Servers reached by login. One login serves many requests; after a lost connection, the next request logs in again."""

import contextlib
import os
import time
from collections.abc import Mapping, Sequence

from pconnect.connect import pconnect
from pconnect.errors import AuthenticationError, ConfigurationError, ProtocolError
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT
from pconnect.link.host_names import Host, parse_hosts
from pconnect.profiles import configured_options
from pconnect.protocol.frames import Limits
from pconnect.session.login import LoginTerms, find_credentials, make_terms, open_control
from pserver.ctl.elsewhere import request_over
from pserver.ctl.sources import Answer, Document, killed_in_words, request_for, request_to_kill
from srp_tools.channel import Channel
from srp_tools.steps import Steps, deadline_after, run, run_all

_STOP_SECONDS = 10.0


def configured_hosts(hosts: Sequence[str], user: str | None) -> "Hosts | None":
    """Return the named hosts, or else the configured ones; ``None`` if there are none.

    Raises `ConfigurationError` if the hosts or the credentials are invalid.
    """
    options = {} if hosts else configured_options(pconnect)
    targets = list(hosts) or options.get("hosts")
    if not targets:
        return None
    password_file = options.get("password_file") or os.environ.get("PCONNECT_CREDENTIALS") or None
    credentials = find_credentials(user or options.get("user"), None, password_file)
    terms = make_terms(credentials, Limits(), DEFAULT_PEER_TIMEOUT, local_links=False)
    return Hosts(parse_hosts(targets), terms)


class Hosts:
    """Servers that are reached by login, all in parallel."""

    def __init__(self, hosts: Sequence[Host], terms: LoginTerms) -> None:
        self._hosts = {host.label: host for host in {(host.name, host.port): host for host in hosts}.values()}
        self._terms = terms
        self._channels: dict[str, Channel] = {}
        self._answered: dict[str, float] = {}
        self._refused: dict[str, Answer] = {}  # not tried again, as more failures would lock the user out

    def ask(self, seconds: float, since: Mapping[str, float] | None = None) -> list[Answer]:
        """See `pserver.ctl.sources.Source`."""
        asked = [name for name in self._hosts if name not in self._refused]
        steps = {name: self._question(name, request_for(since, name)) for name in asked}
        outcomes = run_all(steps, deadline_after(seconds))
        return [self._refused.get(name) or self._answer(name, outcomes[name]) for name in self._hosts]

    def _answer(self, name: str, outcome: Document | Exception) -> Answer:
        if isinstance(outcome, Exception):
            self._leave(name)
            answer = Answer(name, None, _in_words(outcome), self._answered.get(name))
            if isinstance(outcome, AuthenticationError):
                self._refused[name] = answer
            return answer
        self._answered[name] = time.monotonic()
        return Answer(name, outcome, "", self._answered[name])

    def _question(self, name: str, request: Mapping[str, object]) -> Steps[Document]:
        if name in self._channels:
            with contextlib.suppress(
                OSError, ProtocolError
            ):  # it was silent for too long, or is another server: log in again
                return (yield from self._say(name, request))
            self._leave(name)
        self._channels[name], _ = yield from open_control(self._hosts[name], self._terms)
        return (yield from self._say(name, request))

    def _say(self, name: str, request: Mapping[str, object]) -> Steps[Document]:
        return (yield from request_over(self._channels[name], {**request, "stay": True}, name))

    def stop(self, name: str, session: int) -> str:
        """See `pserver.ctl.sources.Source`; uses a separate login, because another thread may be asking."""
        if name not in self._hosts:
            raise ConfigurationError(f"there is no server {name!r:.100}")
        deadline = deadline_after(_STOP_SECONDS)
        channel, _ = run(open_control(self._hosts[name], self._terms), deadline)
        try:
            return killed_in_words(run(request_over(channel, request_to_kill(session), name), deadline))
        finally:
            channel.close()

    def _leave(self, name: str) -> None:
        channel = self._channels.pop(name, None)
        if channel is not None:
            channel.close()

    def close(self) -> None:
        """See `pserver.ctl.sources.Source`."""
        for name in list(self._channels):
            self._leave(name)


def _in_words(error: Exception) -> str:
    if isinstance(error, AuthenticationError):
        return f"login refused: {error}"
    if isinstance(error, TimeoutError):
        return "does not answer"
    return str(error) or type(error).__name__

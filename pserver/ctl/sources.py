"""Answers of servers, and the servers of this account on this machine, reached at their control sockets."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pserver.ctl.asking import ask
from pserver.ctl.live_status import ask_all
from pserver.system.pidfile import RunningServer, find_server, list_servers
from srp_tools.errors import ConfigurationError

Document = Mapping[str, Any]

_MISSED_SECONDS = 600.0  # how long a server stays listed after it is gone


class Answer(NamedTuple):
    """The answer of one server."""

    name: str  #: of the server
    document: Document | None  #: ``None`` if it did not answer
    error: str = ""  #: why it did not answer
    answered_at: float | None = None  #: time of its last answer, by the clock of `time.monotonic`


class Source(Protocol):
    """Servers that can be asked."""

    def ask(self, seconds: float, since: Mapping[str, float] | None = None) -> list[Answer]:
        """Return the answers that arrive within `seconds`, always in the same order.

        `since`: by server name, the time from which samples and timeline are wanted; ``None``: neither is wanted.
        """

    def stop(self, name: str, session: int) -> str:
        """End a session of a server; return a description of the outcome.

        Raises a `ParallelError` or an `OSError` if that is not possible; the message gives the reason.
        """

    def close(self) -> None:
        """Close all connections."""


class OwnServers:
    """The servers of this account on this machine. Vanished servers stay listed for a while, as they may come back.

    `name`: the only server to include.
    """

    def __init__(self, name: str | None = None) -> None:
        self._only = name
        self._answered: dict[str, float | None] = {}
        self._seen: dict[str, float] = {}

    def ask(self, seconds: float, since: Mapping[str, float] | None = None) -> list[Answer]:
        """See `Source`."""
        servers, now = self._servers(), time.monotonic()
        told = ask_all(servers, {name: request_for(since, name) for name in servers}, seconds)
        self._seen |= dict.fromkeys(servers, now)
        for name in servers:
            self._answered.setdefault(name, None)
        self._answered |= dict.fromkeys(told, time.monotonic())
        for name in [name for name, at in self._seen.items() if now - at > _MISSED_SECONDS]:
            del self._seen[name], self._answered[name]
        return [
            Answer(
                name,
                told.get(name),
                "" if name in told else "does not answer" if name in servers else "is not running",
                at,
            )
            for name, at in self._answered.items()
        ]

    def _servers(self) -> dict[str, RunningServer]:
        if self._only is None:
            return by_name(list_servers())
        server = find_server(self._only)
        return {} if server is None else {self._only: server}

    def stop(self, name: str, session: int) -> str:
        """See `Source`."""
        server = self._servers().get(name)
        if server is None:
            raise ConfigurationError(f"there is no server {name!r:.100}")
        return killed_in_words(ask(server, request_to_kill(session)))

    def close(self) -> None:
        """See `Source`."""


def by_name(servers: Sequence[RunningServer]) -> dict[str, RunningServer]:
    """Return servers by unique names; the same name may exist in several run-time folders.

    A server in this process's run-time folder keeps its name. A server in another one keeps it if it is unique, and
    otherwise gets its process id appended.
    """
    names = [server.name for server in servers]
    return {
        server.name
        if server.folder is None or names.count(server.name) == 1
        else f"{server.name} ({server.pid})": server
        for server in servers
    }


def request_for(since: Mapping[str, float] | None, name: str) -> dict[str, object]:
    """Return the request to the server of a name; see `Source.ask`."""
    if since is None:
        return {"do": "statistics", "brief": True}
    return {"do": "statistics", **({"since": since[name]} if name in since else {})}


def request_to_kill(session: int) -> dict[str, object]:
    """Return the request to end a session."""
    return {"do": "kill", "what": str(session)}


def killed_in_words(facts: Mapping[str, Any]) -> str:
    """Describe the answer of a server to that request."""
    ended = [f"{each['session']} of {each['user']}" for each in facts["killed"]]
    return f"Ended session {', '.join(ended)}."

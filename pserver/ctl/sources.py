"""What a server has said, and the servers of this account on this machine, which are asked at their control sockets."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pserver.ctl.asking import ask
from pserver.ctl.live_status import ask_all
from pserver.system.pidfile import RunningServer, find_server, list_servers
from srp_tools.errors import ConfigurationError

Document = Mapping[str, Any]

_MISSED_SECONDS = 600.0  # for which a server that has gone is listed


class Answer(NamedTuple):
    """What one server has said."""

    name: str  #: which server
    document: Document | None  #: ``None`` if it did not answer
    error: str = ""  #: why not
    answered_at: float | None = None  #: when it did last, by the clock of `time.monotonic`


class Source(Protocol):
    """Servers that can be asked."""

    def ask(self, seconds: float, since: Mapping[str, float] | None = None) -> list[Answer]:
        """Return what all say within some seconds, always in the same order.

        `since`: by name, of which instant on samples and timeline are wanted; ``None``: neither is wanted.
        """

    def stop(self, name: str, session: int) -> str:
        """End a session of a server; return in words what has happened.

        Raises a `ParallelError` or an `OSError` if that is not possible; the text has the reason.
        """

    def close(self) -> None:
        """Ask no more."""


class OwnServers:
    """The servers of this account on this machine; those that have gone are listed for a while, as they may come back.

    `name`: of the only one that is meant.
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
                "" if name in told else "does not answer" if name in servers else "does not run",
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
    """Return servers by names that tell them apart: one name may be in several run-time folders.

    A server in the folder of this process has its name, and another one its number as well if the name is not enough.
    """
    names = [server.name for server in servers]
    return {
        server.name
        if server.folder is None or names.count(server.name) == 1
        else f"{server.name} ({server.pid})": server
        for server in servers
    }


def request_for(since: Mapping[str, float] | None, name: str) -> dict[str, object]:
    """Return what the server of a name is asked for, see `Source.ask`."""
    if since is None:
        return {"do": "statistics", "brief": True}
    return {"do": "statistics", **({"since": since[name]} if name in since else {})}


def request_to_kill(session: int) -> dict[str, object]:
    """Return the request to end a session."""
    return {"do": "kill", "what": str(session)}


def killed_in_words(facts: Mapping[str, Any]) -> str:
    """Return in words what a server has answered to that."""
    ended = [f"{each['session']} of {each['user']}" for each in facts["killed"]]
    return f"Ended session {', '.join(ended)}."

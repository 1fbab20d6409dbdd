"""What a server has said, and the servers of this account on this machine, which are asked at their control sockets."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from pserver.ctl.live_status import ask_all
from pserver.system.pidfile import list_servers

Document = Mapping[str, Any]


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

    def close(self) -> None:
        """Ask no more."""


class OwnServers:
    """The servers of this account on this machine; those that have gone stay in the list, as they may come back."""

    def __init__(self) -> None:
        self._answered: dict[str, float | None] = {}

    def ask(self, seconds: float, since: Mapping[str, float] | None = None) -> list[Answer]:
        """See `Source`."""
        servers = {server.name: server for server in list_servers()}
        requests = {name: request_for(since, name) for name in servers}
        told = ask_all(servers.values(), requests, seconds)
        for name in sorted(servers):
            self._answered.setdefault(name, None)
        self._answered |= dict.fromkeys(told, time.monotonic())
        return [
            Answer(
                name,
                told.get(name),
                "" if name in told else "does not answer" if name in servers else "does not run",
                at,
            )
            for name, at in self._answered.items()
        ]

    def close(self) -> None:
        """See `Source`."""


def request_for(since: Mapping[str, float] | None, name: str) -> dict[str, object]:
    """Return what the server of a name is asked for, see `Source.ask`."""
    if since is None:
        return {"do": "statistics", "brief": True}
    return {"do": "statistics", **({"since": since[name]} if name in since else {})}

"""Servers that something else knows how to ask, as a source: `pstat` logs in at those of other machines."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pserver.page.documents import Report
from srp_tools.errors import ConfigurationError

_ANSWER_SECONDS = 5.0  # for a login and the answer


class Answer(Protocol):
    """What one server has said."""

    @property
    def name(self) -> str:
        """Which server."""

    @property
    def document(self) -> Mapping[str, Any] | None:
        """Its statistics; ``None`` if it did not answer."""

    @property
    def error(self) -> str:
        """Why not."""


#: Asks all within some seconds; of each, by its name, from which instant on samples and timeline are wanted.
Ask = Callable[[float, Mapping[str, float]], Sequence[Answer]]


class AskedServers:
    """A source of them. `stop`: ends a session of a server, and returns what has happened."""

    def __init__(self, ask: Ask, stop: Callable[[str, int], str] | None = None) -> None:
        self.can_stop = stop is not None
        self._ask = ask
        self._stop = stop

    async def reports(self, since: Mapping[str, float]) -> Sequence[Report]:
        """See `pserver.page.source.Source`."""
        answers = await asyncio.to_thread(self._ask, _ANSWER_SECONDS, since)
        return [Report(each.name, each.document, each.error) for each in answers]

    async def stop(self, key: str, session: int) -> str:
        """See `pserver.page.source.Source`."""
        if self._stop is None:
            raise ConfigurationError(f"nothing here ends session {session} of {key!r:.100}")
        return await asyncio.to_thread(self._stop, key, session)

"""The interface of the page's sources of documents."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from pserver.page.documents import Report


class Source(Protocol):
    """Provides the latest documents of some servers.

    Both methods raise a `ParallelError` or an `OSError` if they cannot do their work; the message gives the reason.
    """

    #: Whether sessions can be ended through this source.
    can_stop: bool

    async def reports(self, since: Mapping[str, float]) -> Sequence[Report]:
        """Return the current facts about each server, always in the same order.

        `since`: by server key, a time of the server's clock. A document may leave out work that ended earlier, and
        earlier samples. Without a time for a server, its document is complete.
        """

    async def stop(self, key: str, session: int) -> str:
        """End a session of a server; return a description of the outcome."""

"""Where the page has its documents from."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from pserver.page.documents import Report


class Source(Protocol):
    """Gives the newest documents of some servers.

    Both methods raise a `ParallelError` or an `OSError` if there is nothing to give; the text has the reason.
    """

    #: Whether sessions can be ended here.
    can_stop: bool

    async def reports(self, since: Mapping[str, float]) -> Sequence[Report]:
        """Return what is known of each server now, always in the same order.

        `since`: by the key of a server, an instant of its clock. Of what ended before, and of samples from before, a
        document may be without; it has everything where there is no instant.
        """

    async def stop(self, key: str, session: int) -> str:
        """End a session of a server; return in words what has happened."""

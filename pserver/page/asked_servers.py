"""Adapter for the sources of `pserver.ctl.sources`: servers of this account, and servers reached by login."""

import asyncio
from collections.abc import Mapping, Sequence

from pserver.ctl.sources import Source
from pserver.page.documents import Report

_ANSWER_SECONDS = 5.0  # for a login and its answer


class AskedServers:
    """The servers of `source` as a source for the page."""

    can_stop = True

    def __init__(self, source: Source) -> None:
        self._source = source

    async def reports(self, since: Mapping[str, float]) -> Sequence[Report]:
        """See `pserver.page.source.Source`."""
        answers = await asyncio.to_thread(self._source.ask, _ANSWER_SECONDS, since)
        return [Report(each.name, each.document, each.error) for each in answers]

    async def stop(self, key: str, session: int) -> str:
        """See `pserver.page.source.Source`."""
        return await asyncio.to_thread(self._source.stop, key, session)

"""The servers of this account on this machine, asked at their control sockets, which no other account can open."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from pserver.ctl.asking import ask
from pserver.page.documents import Report
from pserver.system.pidfile import RunningServer, find_server, list_servers
from srp_tools.errors import ConfigurationError, ParallelError

_LOOK_SECONDS = 5.0  # between two looks which servers there are


class OwnServers:
    """A source of them; `name`: of the only one to show, ``None`` for all."""

    can_stop = True

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        self._found: dict[str, RunningServer] = {}
        self._look_due = 0.0

    async def reports(self, since: Mapping[str, float]) -> Sequence[Report]:
        """See `pserver.page.source.Source`."""
        servers = await asyncio.to_thread(self._servers)
        told = [self._report(key, server, since.get(key)) for key, server in servers.items()]
        reports = await asyncio.gather(*told)
        if any(report.document is None for report in reports):
            self._look_due = 0.0  # it may have ended, or started again
        return reports

    async def stop(self, key: str, session: int) -> str:
        """See `pserver.page.source.Source`."""
        server = (await asyncio.to_thread(self._servers)).get(key)
        if server is None:
            raise ConfigurationError(f"there is no server {key!r:.100}")
        told = await asyncio.to_thread(ask, server, {"do": "kill", "what": str(session)})
        ended = [f"{each['session']} of {each['user']}" for each in told["killed"]]
        return f"Ended session {', '.join(ended)}."

    def _servers(self) -> Mapping[str, RunningServer]:
        if time.monotonic() < self._look_due:
            return self._found
        if self._name is None:
            servers = list_servers()
        else:
            found = find_server(self._name)
            servers = [] if found is None else [found]
        # The same name may be in several run-time folders.
        names = [server.name for server in servers]
        self._found = {
            server.name if names.count(server.name) == 1 else f"{server.name} ({server.pid})": server
            for server in servers
        }
        self._look_due = time.monotonic() + _LOOK_SECONDS
        return self._found

    async def _report(self, key: str, server: RunningServer, since: float | None) -> Report:
        request: dict[str, object] = {"do": "statistics"}
        if since is not None:
            request["since"] = since
        try:
            return Report(key, await asyncio.to_thread(ask, server, request))
        except (ParallelError, OSError) as error:
            return Report(key, None, str(error))

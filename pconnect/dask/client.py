"""Dask's client of a cluster that a network has started: the one module here that imports Dask, when it is asked for.

It has a thread of its own, as all clients of Dask, which never touches the network: that is served by whoever calls
`close`.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Collection, Mapping
from typing import Any

import distributed
from distributed.comm.addressing import get_address_host
from distributed.security import Security

from pconnect.dask.dashboard import Dashboard
from srp_tools.certificates import PemIdentity
from srp_tools.tls import file_of

_CLOSE_TIMEOUT = 5.0
_TERMINATE_TIMEOUT = 1.0  # a scheduler that does not answer is killed


class NetworkClient(distributed.Client):
    """A client of Dask whose scheduler and workers run at the machines of a network, and end with it."""

    #: Called once, when it is closed, with the seconds for that.
    end_processes: Callable[[float], object] | None = None
    #: Called before anything ends.
    before_end: Callable[[], object] = staticmethod(lambda: None)
    _ends_scheduler = False
    _dashboard: Dashboard | None = None

    @classmethod
    def connect(
        cls, address: str, identity: PemIdentity, timeout: float, options: Mapping[str, Any]
    ) -> "NetworkClient":
        """Connect with a scheduler that has a certificate of the same authority, and end it when this is closed.

        Raises
        ------
        OSError
            That cannot be done; the text says why.
        TypeError, ValueError
            A client has no such options.
        """
        # Given as texts, Dask would write them to the disk. It reads them once, when the client is made.
        with file_of((identity.certificate + identity.key).encode()) as path:
            security = Security(
                require_encryption=True,
                tls_ca_file=identity.authority,
                tls_client_cert=path,
                tls_client_key=path,
                tls_min_version=ssl.TLSVersion.TLSv1_3,
            )
            client = cls(address, security=security, timeout=timeout, **options)
        client._ends_scheduler = True
        return client

    @property
    def dashboard_link(self) -> str | None:
        """Where the dashboard is, for a browser on this machine; ``None`` if it was not asked for.

        The address has a token: anyone who has it can see the dashboard.
        """
        return self._dashboard.link if self._dashboard is not None else None

    def show_dashboard(self, port: int) -> None:
        """Let this user reach the pages that the scheduler has at a port.

        Raises `OSError` if there is no port left here.
        """
        context = self.connection_args["ssl_context"]

        async def make() -> Dashboard:
            host = get_address_host(self.scheduler.address)
            return Dashboard(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", context)

        self._dashboard = self.sync(make)

    def wishes(self) -> tuple[int, set[str], list[str]]:
        """Return how many workers the scheduler wants, the names of those that are there, and of those to spare."""

        def look(dask_scheduler: Any) -> tuple[int, set[str], list[str]]:
            wanted = dask_scheduler.adaptive_target()
            names = {worker.name for worker in dask_scheduler.workers.values()}
            count = max(0, len(names) - wanted)
            return wanted, names, dask_scheduler.workers_to_close(n=count, attribute="name") if count else []

        found: tuple[int, set[str], list[str]] = self.run_on_scheduler(look)
        return found

    def retire(self, names: Collection[str]) -> None:
        """Let workers hand over what they hold, and end."""
        self.retire_workers(names=list(names), close_workers=True, remove=True)

    def close(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Close this client, and end the scheduler and the workers.

        What they compute is given up. Engines that are busy are not waited for.

        `timeout`: seconds for Dask to end in order. What is left of its processes then is killed.
        """
        self.before_end()
        end, self.end_processes = self.end_processes, None
        try:
            super().close(timeout)
        finally:
            if end is not None:
                end(timeout)

    async def _close(self, *args: Any, **options: Any) -> None:
        """End the scheduler, and so the workers, before the connection to it: they need no engine for that."""
        dashboard, self._dashboard = self._dashboard, None
        if dashboard is not None:
            await dashboard.close()
        if self._ends_scheduler and self.scheduler is not None:
            self._ends_scheduler = False
            with contextlib.suppress(OSError, asyncio.TimeoutError):  # it is gone, or hangs
                await asyncio.wait_for(self.scheduler.terminate(), _TERMINATE_TIMEOUT)
        await super()._close(*args, **options)

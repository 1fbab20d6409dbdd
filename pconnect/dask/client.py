"""Dask's client for a cluster of a network. Only this module imports Dask, and it is imported on demand.

Like all Dask clients it has its own thread, which never uses the network; the caller of `close` serves the network.
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
    """A Dask client whose scheduler and workers run on the machines of a network and end with it."""

    #: Called once while closing, with the timeout in seconds.
    end_processes: Callable[[float], object] | None = None
    #: Called before anything is ended.
    before_end: Callable[[], object] = staticmethod(lambda: None)
    _ends_scheduler = False
    _dashboard: Dashboard | None = None

    @classmethod
    def connect(
        cls, address: str, identity: PemIdentity, timeout: float, options: Mapping[str, Any]
    ) -> "NetworkClient":
        """Connect to a scheduler that has a certificate of the same authority; closing the client ends the scheduler.

        Raises
        ------
        OSError
            The connection failed; the text says why.
        TypeError, ValueError
            Dask's client has no such options.
        """
        # Dask would write texts to the disk. It reads the file only once, when the client is created.
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
        """The address of the dashboard for a browser on this machine; ``None`` if it was not requested.

        The address contains a token: anyone who has it can see the dashboard.
        """
        return self._dashboard.link if self._dashboard is not None else None

    def show_dashboard(self, port: int) -> None:
        """Make the scheduler's pages, which it serves on a port, available to this user.

        Raises `OSError` if no local port is free.
        """
        context = self.connection_args["ssl_context"]

        async def make() -> Dashboard:
            host = get_address_host(self.scheduler.address)
            return Dashboard(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", context)

        self._dashboard = self.sync(make)

    def wishes(self) -> tuple[int, set[str], list[str]]:
        """Return the number of workers the scheduler wants, the names of all workers, and the names of idle ones."""

        def look(dask_scheduler: Any) -> tuple[int, set[str], list[str]]:
            wanted = dask_scheduler.adaptive_target()
            names = {worker.name for worker in dask_scheduler.workers.values()}
            count = max(0, len(names) - wanted)
            return wanted, names, dask_scheduler.workers_to_close(n=count, attribute="name") if count else []

        found: tuple[int, set[str], list[str]] = self.run_on_scheduler(look)
        return found

    def retire(self, names: Collection[str]) -> None:
        """Let workers move their data to others and exit."""
        self.retire_workers(names=list(names), close_workers=True, remove=True)

    def close(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Close this client, and end the scheduler and the workers.

        Running computations are abandoned. The call does not wait for busy engines.

        `timeout`: seconds for Dask to shut down; remaining processes are then killed.
        """
        self.before_end()
        end, self.end_processes = self.end_processes, None
        try:
            super().close(timeout)
        finally:
            if end is not None:
                end(timeout)

    async def _close(self, *args: Any, **options: Any) -> None:
        """End the scheduler, and with it the workers, before closing the connection: this needs no engine."""
        dashboard, self._dashboard = self._dashboard, None
        if dashboard is not None:
            await dashboard.close()
        if self._ends_scheduler and self.scheduler is not None:
            self._ends_scheduler = False
            with contextlib.suppress(OSError, asyncio.TimeoutError):  # the scheduler is gone, or hangs
                await asyncio.wait_for(self.scheduler.terminate(), _TERMINATE_TIMEOUT)
        await super()._close(*args, **options)

"""Dask's client of a cluster that a network has started: the one module here that imports Dask, when it is asked for.

It has a thread of its own, as all clients of Dask, which never touches the network: that is served by whoever calls
`close`.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import distributed
from distributed.security import Security

from srp_tools.certificates import PemIdentity
from srp_tools.tls import file_of

_CLOSE_TIMEOUT = 5.0
_TERMINATE_TIMEOUT = 1.0  # a scheduler that does not answer is killed


class NetworkClient(distributed.Client):
    """A client of Dask whose scheduler and workers run at the machines of a network, and end with it."""

    #: Called once, when it is closed, with the seconds for that.
    end_processes: Callable[[float], object] | None = None
    _ends_scheduler = False

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
    def dashboard_link(self) -> None:
        """There is none: anyone who reaches the port could read its pages."""

    def close(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Close this client, and end the scheduler and the workers.

        What they compute is given up. Engines that are busy are not waited for.

        `timeout`: seconds for Dask to end in order. What is left of its processes then is killed.
        """
        end, self.end_processes = self.end_processes, None
        try:
            super().close(timeout)
        finally:
            if end is not None:
                end(timeout)

    async def _close(self, *args: Any, **options: Any) -> None:
        """End the scheduler, and so the workers, before the connection to it: they need no engine for that."""
        if self._ends_scheduler and self.scheduler is not None:
            self._ends_scheduler = False
            with contextlib.suppress(OSError, asyncio.TimeoutError):  # it is gone, or hangs
                await asyncio.wait_for(self.scheduler.terminate(), _TERMINATE_TIMEOUT)
        await super()._close(*args, **options)

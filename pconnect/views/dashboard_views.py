"""`Network.dashboard`: the servers of a network on a web page."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from typing import Any

from pconnect.errors import ConfigurationError
from pconnect.loop.network import Network
from pconnect.session.remote_calls import client_mesh
from pconnect.statistics.dashboard import Dashboard, notebook_prefix
from pconnect.statistics.server_table import ask_servers
from pconnect.views.dask_views import DaskViews

_ANSWER_SECONDS = 5.0
_AUTO = "auto"


class PageViews(DaskViews):
    """The methods for the dashboard page and for Dask; mixed into the client's network."""

    def dashboard(self, *, proxied: str | None = _AUTO) -> Dashboard:
        """Show the servers of this network on a page: slots and their use, queue, transfers, the last hour.

        As the last expression of a notebook cell, the page appears in a frame below it. A separate process serves the
        page on the loopback interface; it ends with the network, or with ``close()``, which ends no sessions. Anyone
        who has its address, which contains a random token, can see it. A saved notebook contains the address too, but
        that is useless once the network is closed.

        A network has one page, which shows its current nodes, including those added later; a part of the network has
        its own page. Another call, as when a cell is run again, returns the same page.

        Parameters
        ----------
        proxied
            The path of the Jupyter server, such as ``"/user/alice/"``, where the notebook runs on another machine than
            the browser and jupyter-server-proxy leads to the page. By default it is detected if jupyter-server-proxy is
            installed with the kernel. ``None``: the browser is on this machine.

        Returns
        -------
        Dashboard
            ``url`` is its address for a browser on this machine.

        Raises
        ------
        ConfigurationError
            The packages of the extra ``page`` are missing, or the page could not start; the text has the reason.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(1) as net:
        ...     print(net.dashboard())
        Dashboard at http://127.0.0.1:.../?token=...
        """
        assert isinstance(self, Network)  # noqa: S101 - it is mixed into this alone
        mesh = client_mesh(self.mesh)
        mesh.check_open()
        prefix = _prefix(proxied)
        pages = [getattr(close, "__self__", None) for close in mesh.before_close]
        for page in pages:
            if isinstance(page, _NetworkPage) and page.is_of(self, prefix) and page.is_shown:
                return page
        return _NetworkPage(self, prefix)


class _NetworkPage(Dashboard):
    """The page of a network, or of a part of one; the network closes it."""

    def __init__(self, view: Network, prefix: str | None) -> None:
        self._mesh = client_mesh(view.mesh)
        self._place = None if view.is_whole else sorted(view.nodes), prefix

        def ask(since: Mapping[str, float]) -> Mapping[str, Mapping[str, Any]]:
            return ask_servers(self._mesh, view.nodes, since, _ANSWER_SECONDS)

        super().__init__(ask, prefix)
        self._mesh.before_close.append(self.close)

    def is_of(self, view: Network, prefix: str | None) -> bool:
        """Whether it shows these nodes, to a browser that uses this path."""
        return self._place == (None if view.is_whole else sorted(view.nodes), prefix)

    def close(self) -> None:
        """End the page; a second call does nothing."""
        with contextlib.suppress(ValueError):  # the network is closing, or the page never started
            self._mesh.before_close.remove(self.close)
        super().close()


def _prefix(proxied: str | None) -> str | None:
    if proxied == _AUTO:
        has_proxy = importlib.util.find_spec("jupyter_server_proxy") is not None
        return notebook_prefix(os.environ, [*sys.modules, *(["jupyter_server_proxy"] if has_proxy else [])])
    if proxied is None:
        return None
    if not proxied.startswith("/") or not proxied.endswith("/") or proxied.startswith("//"):
        raise ConfigurationError(
            f"proxied={proxied!r}: give the path of the Jupyter server, such as '/user/alice/'"
        )
    return proxied

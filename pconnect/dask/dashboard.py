"""Dask's dashboard for the user of this process only: a gate on the loopback address, protected by a token.

Dask serves its pages without a login. Here the scheduler serves them over TLS to clients that have a certificate of the
network; a browser has none. Therefore the client listens on a loopback port, and forwards requests that have the right
token, using its own certificate. Other accounts on this machine, and foreign web pages in the user's browser, can reach
that port as well, but they get nothing:

* The token, 256 random bits, is the first part of the path, as in ``/TOKEN/status``. It is compared in constant time.
* The ``Host`` must be this address and port; this stops pages whose host name was redirected here (DNS rebinding).
* If a request names its origin, as web sockets do, the origin must be a page of this gate.
* A link to another page does not reveal the address with the token (``Referrer-Policy``); there is no cookie.

The pages come from a scheduler, which may be hostile. A browser would treat them as the same site as everything that
listens on 127.0.0.1, such as Jupyter, and send them its cookies, which do not depend on the port. Therefore the pages
get an opaque origin (``Content-Security-Policy: sandbox``). Their requests have ``Origin: null``, and the files that
they load from here count as cross-origin; the token authorizes them.

The gate runs in the loop of Dask's client, which closes it.
"""

import contextlib
import hmac
import secrets
import ssl
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    WebSocketError,
    WebSocketHandler,
    websocket_connect,
)

_TOKEN_BYTES = 32
_TIMEOUT = 30.0  # seconds, for a page
_MAX_MESSAGE_BYTES = 2**26  # of a web socket; enough for plots with many thousand points
_POLICY = "sandbox allow-scripts allow-popups allow-downloads"
# Headers that the scheduler needs of a request, and the browser of an answer. All others concern a single connection.
_ASKED = ("Accept", "Accept-Language", "If-None-Match", "If-Modified-Since")
_ANSWERED = ("Content-Type", "Etag", "Last-Modified", "Cache-Control")


class Dashboard:
    """The gate to the pages of a scheduler.

    `upstream`: host and port of the pages, as in ``10.0.0.1:8787``. `context`: holds the certificate for them. Create
    this object in a running event loop.

    Raises `OSError` if no port is free.
    """

    def __init__(self, upstream: str, context: ssl.SSLContext) -> None:
        self.upstream = upstream
        self.context = context
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self.pages = AsyncHTTPClient(force_instance=True)
        self._server = HTTPServer(
            Application(
                [(r"/([^/]*)(/.*|)", _Gate, {"dashboard": self})],
                websocket_max_message_size=_MAX_MESSAGE_BYTES,
                log_function=lambda _: None,  # log lines would contain the token
            )
        )
        sockets = bind_sockets(0, "127.0.0.1")
        self.port = int(sockets[0].getsockname()[1])
        self._server.add_sockets(sockets)

    @property
    def link(self) -> str:
        """The address for the user's browser."""
        return f"http://127.0.0.1:{self.port}/{self.token}/status"

    def may(self, host: str, token: str) -> bool:
        """Return whether a request with this ``Host`` and token comes from the user."""
        right = hmac.compare_digest(token.encode(), self.token.encode())
        return right and host in {f"127.0.0.1:{self.port}", f"localhost:{self.port}"}

    async def close(self) -> None:
        """Stop listening, and close the open connections."""
        self._server.stop()
        self.pages.close()
        await self._server.close_all_connections()


class _Gate(WebSocketHandler):
    """Forwards one request, or one web socket."""

    def initialize(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard
        self._far: WebSocketClientConnection | None = None

    def prepare(self) -> None:
        token = str(self.path_args[0]) if self.path_args else ""
        own = f"http://{self.request.host}"
        origin = self.request.headers.get("Origin", own)
        if not self._dashboard.may(self.request.host, token) or not self.check_origin(origin):
            raise HTTPError(403)

    def check_origin(self, origin: str) -> bool:
        """Return whether pages of this origin may send requests; tornado calls this for web sockets as well."""
        return origin in {f"http://{self.request.host}", "null"}

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", _POLICY)

    def write_error(self, status_code: int, **_: Any) -> None:
        text = {
            403: "Open the complete address in client.dashboard_link; it is valid until that client is closed.",
            502: "The scheduler does not answer.",
        }.get(status_code, self._reason)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{text}\n")

    async def get(self, token: str, path: str) -> None:
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            await self._open_both(path)
            return
        if not path:
            self.redirect(f"/{token}/status")
            return
        kept = {name: self.request.headers[name] for name in _ASKED if name in self.request.headers}
        request = HTTPRequest(
            self._address("https", path),
            headers=kept,
            ssl_options=self._dashboard.context,
            follow_redirects=False,
            request_timeout=_TIMEOUT,
        )
        try:
            answer = await self._dashboard.pages.fetch(request, raise_error=False)
        except (OSError, HTTPClientError) as error:
            raise HTTPError(502) from error
        self.set_status(answer.code, answer.reason)
        for name in _ANSWERED:
            if name in answer.headers:
                self.set_header(name, answer.headers[name])
        if (there := answer.headers.get("Location", "")) and "//" not in there:
            self.set_header("Location", f"/{token}{there}" if there.startswith("/") else there)
        await self.finish(None if answer.code in {204, 304} else answer.body)

    def _address(self, scheme: str, path: str) -> str:
        query = f"?{self.request.query}" if self.request.query else ""
        return f"{scheme}://{self._dashboard.upstream}{path}{query}"

    # --- web sockets, which carry the data of Bokeh's plots ---

    async def _open_both(self, path: str) -> None:
        wanted = self.request.headers.get("Sec-WebSocket-Protocol", "")
        request = HTTPRequest(self._address("wss", path), ssl_options=self._dashboard.context)
        try:
            self._far = await websocket_connect(
                request,
                subprotocols=[each.strip() for each in wanted.split(",") if each.strip()],
                max_message_size=_MAX_MESSAGE_BYTES,
            )
        except (OSError, HTTPClientError, WebSocketError) as error:
            raise HTTPError(502) from error
        try:
            await super().get(*self.path_args)
        finally:
            if self.ws_connection is None:  # the request for a web socket was malformed
                self._far.close()

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        chosen = self._far.selected_subprotocol if self._far else None
        return chosen if chosen in subprotocols else None

    def open(self, *_: str, **__: str) -> None:
        self.ws_connection.stream.io_loop.add_callback(self._relay)  # type: ignore[union-attr]

    async def _relay(self) -> None:
        far = self._far
        assert far is not None  # noqa: S101 - opened before this end
        with contextlib.suppress(WebSocketClosedError):  # one of the ends is gone
            while (message := await far.read_message()) is not None:
                await self.write_message(message, binary=isinstance(message, bytes))
        self.close()

    async def on_message(self, message: str | bytes) -> None:
        if self._far is not None:
            with contextlib.suppress(WebSocketClosedError):
                await self._far.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        if self._far is not None:
            self._far.close()

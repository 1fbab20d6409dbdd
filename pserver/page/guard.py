"""Checks before every request: whether it is allowed, and what browsers may do with the answer.

There are no cookies, so a browser never authenticates a request on its own. The token is the only secret: it is part of
the address that the user opens, and afterwards of a header that only scripts of this page set. A page of another origin
can send requests here, but it does not know the token. Three further checks add protection:

- the ``Host`` header must name this machine, because DNS rebinding can point other names to it;
- browsers report the origin of a request (``Sec-Fetch-Site``); requests from other origins are refused, except when a
  user opens the page;
- the page can load scripts and styles only from its own files, and connect only to its own server
  (Content-Security-Policy).
"""

import hmac
import ipaddress
from collections.abc import Collection, Iterable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = "x-pserver-token"  # noqa: S105 - the name of the header, not a secret
_MOST_QUERY_BYTES = 2048
_METHODS = {"GET", "HEAD", "POST"}
_OPEN_FOLDER = "/static/"  # these files are public anyway

_HELP = (
    "This page needs its token. Open the whole address, which ends with ?token=... and was printed at the start of the "
    "page; for a page of pserver start --status-page, pserver status prints it.\n"
)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'; "
)


class Guard:
    """An ASGI application around another one; it lets through requests with the token.

    `names`: names of this machine that requests may give as their host, besides those of the loopback interface;
    ``"*"`` allows any name, for a page behind a proxy whose name is unknown. `framed_by`: the origins whose pages may
    show this page in a frame, in the notation of a Content-Security-Policy.
    """

    def __init__(
        self, app: ASGIApp, token: str, *, names: Collection[str] = (), framed_by: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._names = {name.lower().strip("[]") for name in names}
        ancestors = list(framed_by)
        framers = " ".join(ancestors) or "'none'"
        self._headers = {
            "content-security-policy": f"{_POLICY}frame-ancestors {framers}",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=(), clipboard-read=()",
        }
        if not ancestors:
            self._headers["x-frame-options"] = "DENY"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":  # web sockets are not supported
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope, Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        """Return the answer to a request that is refused."""
        if scope["method"] not in _METHODS:
            return PlainTextResponse("this method is not supported\n", 405, {"allow": "GET, HEAD, POST"})
        if not self._is_own_name(headers.getlist("host")):
            why = "this page does not answer to this host name; to allow it, start the page with --page-host NAME\n"
            return PlainTextResponse(why, 421)
        # For browsers that do not send the header, the token is the only protection.
        is_opened = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"} and not is_opened:
            return PlainTextResponse("requests from other origins are refused\n", 403)
        if len(scope["query_string"]) > _MOST_QUERY_BYTES:
            return PlainTextResponse("the address is too long\n", 414)
        is_open = scope["path"].startswith(_OPEN_FOLDER)
        return None if is_open or self._has_token(scope, headers) else PlainTextResponse(_HELP, 401)

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        given = _given_token(scope, headers).encode(errors="surrogatepass")
        return hmac.compare_digest(given, self._token)

    def _is_own_name(self, hosts: list[str]) -> bool:
        if "*" in self._names:
            return True
        if len(hosts) != 1:
            return False
        name = _without_port(hosts[0].lower())
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def _without_port(host: str) -> str:
    """Return the name in a ``Host`` header.

    Examples
    --------
    >>> _without_port("[::1]:80"), _without_port("localhost:80"), _without_port("localhost")
    ('::1', 'localhost', 'localhost')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _given_token(scope: Scope, headers: Headers) -> str:
    """Return the token of a request; requests that change something must have it in a header, which no form can set."""
    if (given := headers.get(TOKEN_HEADER)) is not None:
        return given
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    query: bytes = b"" if scope["method"] == "POST" else scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]

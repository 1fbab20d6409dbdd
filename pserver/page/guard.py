"""What stands before every request: whose it is, and what browsers may do with the answer.

There is no cookie, so a browser never gives anybody's authority away by itself. All of it is one secret, the token: in
the address that the user opens, and then in a header that scripts of this page alone set. A page of another origin can
send requests here, but it knows no token. The rest is a second wall:

- the ``Host`` header must name this machine, as DNS rebinding makes another name lead here;
- a browser says where a request is from (``Sec-Fetch-Site``), and one of another origin is refused, but for a user who
  opens the page;
- the page runs no script and has no style but its own files, and talks to nobody else (Content-Security-Policy).
"""

import hmac
import ipaddress
from collections.abc import Collection, Iterable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = "x-pserver-token"  # noqa: S105 - the name of it
_MOST_QUERY_BYTES = 2048
_METHODS = {"GET", "HEAD", "POST"}
_OPEN_FOLDER = "/static/"  # what everybody can have from a package registry

_HELP = (
    "This page needs its token. Open the whole address that was printed when it was started, with ?token=... at its "
    "end; for a page of pserver start --status-page, pserver status prints it.\n"
)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'; "
)


class Guard:
    """An ASGI application around another one, which lets through what has the token.

    `names`: of the machine, which requests may have as their host besides those of the loopback interface; ``"*"`` lets
    through any, for a page behind a proxy whose name nobody knows. `framed_by`: the origins whose pages may show this
    one in a frame, as a Content-Security-Policy has them.
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
        if scope["type"] != "http":  # there are no web sockets
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
        """Return the answer to a request that does not pass."""
        if scope["method"] not in _METHODS:
            return PlainTextResponse("this method is not served\n", 405, {"allow": "GET, HEAD, POST"})
        if not self._is_own_name(headers.getlist("host")):
            why = "this name does not lead to this page; start it with --page-host NAME if it should\n"
            return PlainTextResponse(why, 421)
        # Browsers that do not say it are stopped by the token alone.
        is_opened = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"} and not is_opened:
            return PlainTextResponse("requests of other origins are refused\n", 403)
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
    """Return the token that came with a request; what changes something has it in a header, which no form can set."""
    if (given := headers.get(TOKEN_HEADER)) is not None:
        return given
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    query: bytes = b"" if scope["method"] == "POST" else scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]

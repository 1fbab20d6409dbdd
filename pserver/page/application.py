"""The URLs of the page: its files, the stream of changes, JSON for programs, figures for Prometheus, and stop."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from pserver.page.documents import Report, clean
from pserver.page.guard import Guard
from pserver.page.metrics import exposition
from pserver.page.source import Source
from pserver.page.watching import TooManyError, Watching
from srp_tools.errors import ParallelError

STATIC = Path(__file__).parent / "static"
_MOST_BODY_BYTES = 1024
_MOST_SESSION = 2**31


class PageError(Exception):
    """A request that cannot be served; `status`: HTTP status of the answer."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def make_application(
    source: Source,
    token: str,
    *,
    names: Iterable[str] = (),
    framed_by: Iterable[str] = (),
    interval: float = 1.0,
) -> ASGIApp:
    """Return the page of a source as an ASGI application.

    Parameters
    ----------
    source
        The source of documents.
    token
        The secret that requests must contain.
    names, framed_by
        See `pserver.page.guard.Guard`.
    interval
        Seconds between two requests to the source while a browser is watching.
    """
    endpoints = _Endpoints(source, interval)
    routes = [
        Route("/", endpoints.page),
        Route("/events", endpoints.events),
        Route("/metrics", endpoints.metrics),
        Route("/api/servers", endpoints.servers),
        Route("/api/statistics", endpoints.statistics),
        Route("/api/stop", endpoints.stop, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={PageError: _page_error, ParallelError: _source_error, OSError: _source_error},
    )
    # Behind a proxy's prefix, all addresses must be relative, but Starlette redirects to absolute ones.
    app.router.redirect_slashes = False
    return Guard(app, token, names=tuple(names), framed_by=framed_by)


async def _page_error(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, PageError) else 500
    return JSONResponse({"error": str(error)}, status)


async def _source_error(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 502)


class _Endpoints:
    """Answers requests that have passed the guard."""

    def __init__(self, source: Source, interval: float) -> None:
        self._watching = Watching(source, interval)

    async def page(self, _: Request) -> Response:
        return FileResponse(STATIC / "page.html", media_type="text/html; charset=utf-8")

    async def events(self, _: Request) -> Response:
        stream = self._watching.stream()
        try:
            first = await anext(stream)
        except TooManyError:
            raise PageError(503, "too many browsers are watching this page; close one") from None

        async def told() -> AsyncIterator[bytes]:
            async with aclosing(stream):
                yield first
                async for each in stream:
                    yield each

        # Otherwise proxies would buffer the stream.
        return StreamingResponse(told(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def metrics(self, request: Request) -> Response:
        body, kind = exposition(await self._watching.reports(), request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind})

    async def servers(self, _: Request) -> Response:
        reports = await self._watching.reports()
        return JSONResponse({"servers": [_entry(report) for report in reports]})

    async def statistics(self, request: Request) -> Response:
        wanted = request.query_params.get("server")
        reports = await self._watching.reports(is_whole=True)
        chosen = [report for report in reports if wanted is None or report.key == wanted]
        if wanted is not None and not chosen:
            raise PageError(404, f"there is no server {wanted!r:.100} on this page")
        return JSONResponse(
            {"servers": [{**_entry(each), "document": clean(each.document)} for each in chosen]}
        )

    async def stop(self, request: Request) -> Response:
        if not self._watching.source.can_stop:
            raise PageError(403, "this page cannot end sessions")
        asked = await _json_body(request)
        match asked:
            case {"server": str(key), "session": int(session)} if (
                type(session) is int and 0 < session < _MOST_SESSION
            ):
                said = await self._watching.source.stop(key, session)
            case _:
                raise PageError(400, 'give {"server": KEY, "session": NUMBER}')
        return JSONResponse({"done": said})


def _entry(report: Report) -> dict[str, object]:
    return {"server": report.key, "is_up": report.document is not None, "error": report.error}


async def _json_body(request: Request) -> object:
    """Return the JSON body of a request; pages of other origins would need permission to send JSON, and get none."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise PageError(415, "the request must be application/json")
    body = b""
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > _MOST_BODY_BYTES:
                raise PageError(413, f"a request may have at most {_MOST_BODY_BYTES} bytes")
    except ClientDisconnect:
        raise PageError(400, "the request is incomplete") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise PageError(400, "the request is not valid JSON") from None

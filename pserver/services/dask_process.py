"""One process of a Dask cluster, scheduler or worker, started by an engine; see `pserver.services.dask_processes`.

It ends with the engine, however the engine dies. Its standard input carries its settings, one line of JSON; for a
worker, a second line is the scheduler's address. It sends the engine one line: the address that it listens on. Before
that, its standard error is a file, whose last lines show why it could not start; afterwards it is the engine's standard
error, which the client shows.

All connections of Dask use TLS 1.3 between certificates of the network. The same is true of connections to its
dashboard, if the client wants one: the client reads it with its certificate and shows it to its user
(`pconnect.dask.dashboard`). Dask itself would serve it to anyone who can reach the port.
"""

import asyncio
import errno
import functools
import json
import logging
import os
import socket
import ssl
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from distributed import Scheduler, Worker
from distributed.comm.addressing import get_address_host
from distributed.http.routing import RoutingApplication
from distributed.security import Security
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from pserver.system.processes import die_with_parent, name_process
from srp_tools.tls import file_of


class _Scheduler(Scheduler):
    def start_http_server(self, routes: Any, *_: object, **__: object) -> None:
        """Serve HTTP only to clients that have a certificate of this network; no option of Dask does this."""
        self.http_application = RoutingApplication(routes)
        self.http_server = HTTPServer(
            self.http_application, ssl_options=self.security.get_listen_args("scheduler")["ssl_context"]
        )
        address = self._start_address
        host = get_address_host(address if isinstance(address, str) else address[0])
        self.http_server.add_sockets(bind_sockets(0, host))
        first = next(iter(self.http_server._sockets.values()))
        address, port, *_ = first.getsockname()
        self.http_server.address, self.http_server.port = address, port  # type: ignore[attr-defined]
        self.services["dashboard"] = self.http_server

    async def close(self, *args: Any, **options: Any) -> Any:
        """Close the scheduler without log messages about the tasks that it gives up."""
        _be_silent()
        return await super().close(*args, **options)


class _QuietScheduler(_Scheduler):
    def start_http_server(self, *_: object, **__: object) -> None:
        """Do not listen for HTTP; no option of Dask does this."""


class _Worker(Worker):
    def start_http_server(self, *_: object, **__: object) -> None:
        """Do not listen for HTTP."""

    async def close(self, *args: Any, **options: Any) -> Any:
        """Close the worker without waiting for tasks: nobody is left to use their results."""
        _be_silent()
        return await super().close(*args, **options | {"executor_wait": False})


def _be_silent() -> None:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


def main() -> None:
    """Run the process; its arguments are two descriptors: the pipe for the report, and the engine's standard error."""
    die_with_parent()
    name_process("dask")
    report, errors = (int(argument) for argument in sys.argv[1:])
    settings = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not settings:  # the engine is gone
        return
    # Make everything importable that the engine can import, also in the scheduler, which unpickles task graphs.
    sys.path[:] = settings["path"]
    scheduler = ""
    if settings["role"] == "worker":
        scheduler = sys.stdin.buffer.readline().decode().strip()
        if not scheduler:
            return
    code = 1
    try:
        key, certificate, authority = settings.pop("identity")
        # If they were passed as text, Dask would write them to disk, now and for every client that a task creates.
        with file_of((certificate + key).encode()) as path:
            security = security_of(settings["role"], path, authority)
            asyncio.run(_serve(_make(settings, scheduler, security), report, errors))
        code = 0
    except Exception:  # noqa: BLE001 - report any error to the engine
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # do not wait for tasks that never end


async def _serve(make: Callable[[], Any], report: int, errors: int) -> None:
    async with make() as server:
        pages = server.services.get("dashboard")
        said = {"address": server.address, "dashboard": pages.port if pages else None}
        os.write(report, json.dumps(said).encode() + b"\n")
        os.close(report)
        os.dup2(errors, sys.stderr.fileno())
        os.close(errors)
        await server.finished()


def _make(settings: dict[str, Any], scheduler: str, security: Any) -> Callable[[], Any]:
    """Return a function that creates the scheduler or worker; call it inside the event loop."""
    host = own_address(settings["hosts"])
    common = {
        "host": f"[{host}]" if ":" in host else host,
        "protocol": "tls",
        "security": security,
    }
    if settings["role"] == "scheduler":
        has_pages = bool(settings.get("dashboard"))  # clients of earlier versions do not send this
        kind = _Scheduler if has_pages else _QuietScheduler
        return functools.partial(kind, port=0, dashboard=has_pages, **common)
    return functools.partial(
        _Worker,
        scheduler,
        name=settings["name"],
        nthreads=settings["threads"],
        memory_limit=settings["memory_limit"],
        local_directory=settings["folder"],
        death_timeout=settings["grace"],
        dashboard=False,
        **common,
    )


def security_of(role: str, path: str, authority: str) -> Any:
    """Return Dask's settings for TLS in a role.

    `role`: ``"scheduler"`` or ``"worker"``. `path`: the file with certificate and key, which Dask reads whenever it
    creates a context. `authority`: the certificate of the network's authority, as PEM text.
    """
    files = {f"tls_{role}_cert": path, f"tls_{role}_key": path}
    return Security(
        require_encryption=True, tls_ca_file=authority, tls_min_version=ssl.TLSVersion.TLSv1_3, **files
    )


def own_address(candidates: Sequence[str]) -> str:
    """Return the first of the addresses that belongs to this machine. Other machines know it by all of them.

    Raises `OSError` if none does.
    """
    for address in candidates:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            try:
                sock.bind((address, 0))
            except OSError:
                continue
            return address
    raise OSError(
        errno.EADDRNOTAVAIL,
        f"this machine has none of the addresses at which its server was reached: {', '.join(candidates)}",
    )


if __name__ == "__main__":
    main()

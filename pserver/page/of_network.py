"""The page of a client's network, in a process that the client starts; see `pconnect.statistics.dashboard`.

Documents come from the client over a socket: each request and each answer is one line. This process exits when the
client closes the socket.
"""

import argparse
import asyncio
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pserver.config.page_options import Address
from pserver.page.application import make_application
from pserver.page.documents import Report
from pserver.page.serving import listen, make_server, new_token, url_of
from pserver.system.clean_start import hold_warnings
from pserver.system.processes import name_process
from srp_tools.errors import ConfigurationError, ParallelError

_MOST_ANSWER = 2**28  # bytes; enough for hundreds of servers
_ANSWER_SECONDS = 15.0
_LOOK_SECONDS = 0.2  # interval for checking that the client is still there
# Pages of notebooks on this machine, at any port; and those of the same origin, through a proxy.
_FRAMED_BY = (
    "'self'",
    "http://localhost:*",
    "http://127.0.0.1:*",
    "https://localhost:*",
    "https://127.0.0.1:*",
)


class FromClient:
    """A source: the client at the other end of the socket."""

    can_stop = False

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._awaited: asyncio.Task[bytes] | None = None  # the pending answer
        self.has_ended = asyncio.Event()

    async def reports(self, since: Mapping[str, float]) -> Sequence[Report]:
        """See `pserver.page.source.Source`."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                if self._awaited is not None:  # the answer to an earlier request that timed out
                    await self._answer(self._awaited)
                self._writer.write(json.dumps(dict(since)).encode() + b"\n")
                self._awaited = asyncio.create_task(self._reader.readline())
                told = json.loads(await self._answer(self._awaited))
        except TimeoutError as error:  # the client is stopped, or busy with a long computation
            raise ConfigurationError(
                "the client of the network is not answering at the moment: it is stopped or busy; "
                "wait until it continues"
            ) from error
        except (OSError, ValueError) as error:
            self.has_ended.set()
            raise ConfigurationError("the client of the network no longer answers") from error
        return read_answer(told)

    async def _answer(self, awaited: "asyncio.Task[bytes]") -> bytes:
        """Wait for an answer; if this is cancelled, a later call can still wait for it."""
        line = await asyncio.shield(awaited)
        self._awaited = None
        return line

    async def stop(self, key: str, session: int) -> str:
        """See `pserver.page.source.Source`."""
        raise ConfigurationError(f"this page cannot end sessions, not even session {session} of {key!r:.100}")


def read_answer(told: Any) -> list[Report]:
    """Return the reports in the client's answer; raise `ConfigurationError` if it is invalid."""
    match told:
        case {"ok": dict(servers)}:
            return [_report(host, each) for host, each in servers.items() if isinstance(each, dict)]
        case {"error": str(why)}:
            raise ConfigurationError(why)
    raise ConfigurationError("the client sent an invalid answer")


def _report(host: str, told: Mapping[str, Any]) -> Report:
    document = told.get("document")
    return Report(host, document if isinstance(document, dict) else None, str(told.get("error", "")))


async def show(client: socket.socket, *, is_proxied: bool) -> None:
    """Serve until the client closes its end."""
    reader, writer = await asyncio.open_unix_connection(sock=client, limit=_MOST_ANSWER)
    try:
        sock = listen(Address(port=0))
    except ParallelError as error:
        writer.write(json.dumps({"error": str(error)}).encode() + b"\n")
        await writer.drain()
        return
    source, token = FromClient(reader, writer), new_token()
    # Requests through a proxy have the proxy's host name, which is unknown here.
    app = make_application(source, token, names=["*"] if is_proxied else [], framed_by=_FRAMED_BY)
    server = make_server(app)
    writer.write(json.dumps({"url": url_of(sock, token)}).encode() + b"\n")
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while not (serving.done() or source.has_ended.is_set() or reader.at_eof()):
        await asyncio.sleep(_LOOK_SECONDS)
    server.should_exit = True
    await serving
    writer.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page; the arguments give the descriptor of the socket to the client."""
    hold_warnings()
    name_process("page")
    parser = argparse.ArgumentParser(prog="python -m pserver.page.of_network")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--proxied", action="store_true")
    options = parser.parse_args(arguments)
    asyncio.run(show(socket.socket(fileno=options.fd), is_proxied=options.proxied))
    return 0


if __name__ == "__main__":
    sys.exit(main())

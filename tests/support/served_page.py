"""The page, served in a thread of the test, and requests to it with any headers."""

import contextlib
import http.client
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pserver.config.page_options import Address
from pserver.page.application import make_application
from pserver.page.serving import listen, make_server
from pserver.page.source import Source
from tests.support.waiting import DEADLINE, wait_until

TOKEN = "the-token-of-this-page"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: str


class Page(NamedTuple):
    """A page that is served."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    def ask(self, path: str, method: str = "GET", body: str | None = None, **headers: str | None) -> Answer:
        """Send a request with the token; omit headers that are ``None``."""
        given: dict[str, str | None] = {"host": f"127.0.0.1:{self.port}", "x-pserver-token": TOKEN}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(None if body is None else body.encode())
            answer = connection.getresponse()
            return Answer(
                answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
            )


@contextlib.contextmanager
def served(source: Source, **options: Any) -> Iterator[Page]:
    """Serve the page of a source while the block runs."""
    sock = listen(Address(port=0))
    server = make_server(make_application(source, TOKEN, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        wait_until(lambda: server.started, "the page")
        yield Page(sock.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(DEADLINE)
        sock.close()

"""The texts of failed connections: a user sees each of them, and the troubleshooting pages have each of them."""

import contextlib
import errno
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pconnect import AuthenticationError, ConnectError, pconnect
from pconnect.link import dialing
from pconnect.link.attempt import Attempt
from pconnect.link.host_names import Host
from pconnect.protocol.frames import VERSION, Preamble, Purpose
from pconnect.session import mesh_setup
from srp_tools import Credentials, VerifierFile, make_verifier
from srp_tools.channel import Channel
from srp_tools.private_files import server_file
from srp_tools.steps import Steps
from tests.support.messages import read_entries
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE

PAGES = Path(__file__).parents[2] / "doc" / "troubleshooting"
ENTRIES = [entry.text for page in ("connecting.md", "login.md") for entry in read_entries(PAGES / page)]
SCENARIOS: list[tuple[str, Callable[["Place"], str]]] = []
ALERT = bytes([21, 3, 3, 0, 2, 2])  # RFC 5246, section 7.2: fatal; its meaning follows


@dataclass
class Place:
    """Shared by the scenarios: servers, their user, and a client that fails."""

    server: Server
    plain: Server
    user: Credentials
    users_file: Path
    patch: pytest.MonkeyPatch
    folder: Path

    def fail(
        self, host: str, *, password: str | None = None, timeout: float = DEADLINE, **options: Any
    ) -> str:
        login = {"user": self.user.user, "password": password or self.user.password}
        with pytest.raises((ConnectError, AuthenticationError)) as caught:
            pconnect(host, timeout=timeout, local_links=False, **(login | options))
        assert str(caught.value).startswith(f"could not connect to {host}: ")
        return str(caught.value)


@contextlib.contextmanager
def speaker(answer: bytes, *, greets: bool = False) -> Iterator[str]:
    """Run a server that sends something, immediately or after a first message, and hangs up after the client."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock, contextlib.suppress(OSError):  # even if the client has hung up already
                    if not greets:
                        sock.recv(4096)
                    sock.sendall(answer)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(4096):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE)


def scenario(begin: str) -> Callable[[Callable[[Place], str]], None]:
    """Register the function that provokes the text of the entry with this beginning."""
    row = next(entry for entry in ENTRIES if entry.startswith(begin))

    def add(function: Callable[[Place], str]) -> None:
        SCENARIOS.append((row, function))

    return add


@scenario("cannot resolve")
def _(place: Place) -> str:
    return place.fail("no-such-host.invalid")


@scenario("connection refused")
def _(place: Place) -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
    return place.fail(host)


@scenario("connecting to port")
def _(place: Place) -> str:
    """Yield the address of a full queue, which drops packets as a firewall does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        return place.fail(f"127.0.0.1:{listener.getsockname()[1]}", timeout=1.0)


@scenario("…, port …: …")
def _(_place: Place) -> str:
    error = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
    return str(Attempt(Host("alpha", "alpha", 12502)).explain(error))


@scenario("port … accepts")
def _(place: Place) -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return place.fail(f"127.0.0.1:{listener.getsockname()[1]}", timeout=0.5)


@scenario("this is the data port")
def _(place: Place) -> str:
    return place.fail(f"127.0.0.1:{place.server.data_port}")


@scenario("that pserver has no")
def _(place: Place) -> str:
    return place.fail(place.plain.host)


@scenario("this server uses TLS")
def _(place: Place) -> str:
    return place.fail(place.server.host, use_tls=False)


@scenario("… answers on port")
def _(place: Place) -> str:
    with speaker(b"SSH-2.0-OpenSSH_9.6\r\n", greets=True) as host:
        return place.fail(host)


@scenario("… answers on port")
def _(place: Place) -> str:
    with speaker(b"HTTP/1.1 400 Bad Request\r\n\r\n") as host:
        return place.fail(host)


@scenario("another service")
def _(place: Place) -> str:
    with speaker(b"220 mail ESMTP\r\n", greets=True) as host:
        return place.fail(host)


@scenario("the service on port")
def _(place: Place) -> str:
    with speaker(b"") as host:
        return place.fail(host)


@scenario("the user name or the password is wrong")
def _(place: Place) -> str:
    return place.fail(place.server.host, password="wrong")


@scenario("the server has no verifier")
def _(place: Place) -> str:
    VerifierFile(server_file()).add(make_verifier(place.user, 2048))
    return place.fail(place.server.host, password="wrong")


@scenario("the server has the same")
def _(place: Place) -> str:
    server_file().parent.mkdir(mode=0o700, parents=True)
    for path in place.users_file.parent.iterdir():
        shutil.copy(path, server_file().parent)
    return place.fail(place.server.host, password="wrong")


@scenario("too many logins")
def _(place: Place) -> str:
    with speaker(ALERT + bytes([49])) as host:
        return place.fail(host)


@scenario("the server is busy")
def _(place: Place) -> str:
    with speaker(ALERT + bytes([80])) as host:
        return place.fail(host, timeout=0.5)


@scenario("no server is listening there; start one with pserver start --no-tcp")
def _(place: Place) -> str:
    place.folder.chmod(0o700)
    return place.fail(f"unix:{place.folder / 'none'}")


@scenario("no connection to node …: its server listens on Unix sockets")
def _(place: Place) -> str:
    with run_server(place.folder / "quiet", "--no-tcp", users=(place.user, place.users_file)) as quiet:
        return place.fail(quiet.host)


@scenario("… speaks version")
def _(place: Place) -> str:
    answer = bytearray(Preamble(Purpose.OTHER_VERSION).pack())
    answer[4] = VERSION + 1
    with speaker(bytes(answer)) as host:
        return place.fail(host, use_tls=False) + place.fail(host)


@scenario("no connection to node … (…)")
def _(place: Place) -> str:
    dial = dialing.dial
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())

        def dial_elsewhere(_: object, *rest: Any, **more: Any) -> Steps[Channel]:
            return dial([listener.getsockname()], *rest, **more)

        place.patch.setattr(mesh_setup, "dial", dial_elsewhere)
        return place.fail(place.server.host, timeout=15.0)


@pytest.fixture
def place(
    server: Server,
    plain_server: Server,
    users: tuple[Credentials, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Place:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Place(server, plain_server, *users, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("row", "provoke"),
    [
        pytest.param(
            row,
            function,
            marks=[pytest.mark.slow] if row.startswith("no connection to node … (") else [],
            id=row[:30],
        )
        for row, function in SCENARIOS
    ],
)
def test_a_text_of_the_pages_is_what_a_user_sees(
    row: str, provoke: Callable[[Place], str], place: Place
) -> None:
    text = provoke(place)
    assert re.search(".+".join(map(re.escape, row.removesuffix("…").split("…"))), text)

"""The dashboard: its user can see it, and everyone else who reaches a port sees nothing."""

import asyncio
import contextlib
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server
from tests.support.tcp_sockets import processes_with, tcp_sockets
from tests.support.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def net(server: Server) -> Iterator[ClientNetwork]:
    with server.connect(1) as made:
        yield made


@pytest.fixture(scope="module")
def client(net: ClientNetwork) -> Iterator[Any]:
    with net.dask(dashboard=True, timeout=DEADLINE) as made:
        yield made


def get(url: str, **headers: str) -> tuple[int, str]:
    """Return the status and text of a page, or of an error."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=DEADLINE) as answer:
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert "Set-Cookie" not in answer.headers
            assert answer.headers["Content-Security-Policy"].startswith("sandbox ")
            assert "allow-same-origin" not in answer.headers["Content-Security-Policy"]
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def base(client: Any) -> str:
    """Return the address of the pages, without a slash at the end."""
    return str(client.dashboard_link).removesuffix("/status")


async def first_event(url: str, **headers: str) -> str:
    """Return the first message of a web socket."""
    connection = await websocket_connect(HTTPRequest(url, headers=headers))
    try:
        message = await asyncio.wait_for(connection.read_message(), DEADLINE)
    finally:
        connection.close()
    return str(message)


def test_the_user_sees_the_dashboard(client: Any) -> None:
    status, page = get(str(client.dashboard_link))
    assert status == 200
    assert "dask" in page.lower()
    assert get(f"{base(client)}/health") == (200, "ok")
    assert get(base(client))[0] == 200  # redirected to the first page
    assert "node1-0" in get(f"{base(client)}/info/main/workers.html")[1]
    assert get(f"{base(client)}/no-such-page")[0] == 404


def test_web_sockets_pass(client: Any) -> None:
    events = base(client).replace("http", "ws") + "/eventstream"
    origin = base(client).rpartition("/")[0]
    for each in (origin, "null"):  # browsers send "null" for a page with an opaque origin
        assert "add_worker" in asyncio.run(first_event(events, Origin=each))


def test_others_on_the_port_get_nothing(client: Any) -> None:
    here, _, token = base(client).rpartition("/")
    port = here.rpartition(":")[2]
    assert len(token) >= 43
    attempts = {
        "without a token": get(f"{here}/status"),
        "nothing at all": get(f"{here}/"),
        "a wrong token": get(f"{here}/{token[:-1]}x/status"),
        "the token elsewhere": get(f"{here}/status?token={token}"),
        "another name that leads here": get(f"{base(client)}/status", Host="attacker.example"),
        "that name with the port": get(f"{base(client)}/status", Host=f"attacker.example:{port}"),
    }
    assert {what: code for what, (code, _) in attempts.items()} == dict.fromkeys(attempts, 403)
    assert all("Dask" not in text for _, text in attempts.values())
    socket = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    sockets = {
        "without a token": get(f"{here}/eventstream", **socket),
        "a wrong token": get(f"{here}/{token[:-1]}x/eventstream", **socket),
        "a page of another": get(f"{base(client)}/eventstream", **socket, Origin="http://attacker.example"),
        "another name": get(f"{base(client)}/eventstream", **socket, Host="attacker.example"),
    }
    assert {what: code for what, (code, _) in sockets.items()} == dict.fromkeys(sockets, 403)


def test_the_ports_of_dask_refuse_strangers(server: Server, client: Any) -> None:
    pids = processes_with("PSERVER_RUNTIME_DIR", str(server.folder))
    dask = {pid for pid, name in pids.items() if "dask" in name}
    places = sorted(tcp_sockets(dask, listening=True))
    assert len(places) == 3  # the scheduler, its pages, the worker
    without_certificate = ssl.create_default_context()
    without_certificate.check_hostname = False
    without_certificate.verify_mode = ssl.CERT_NONE
    for place in places:
        assert place.startswith("tcp 0100007F:")
        port = int(place.rpartition(":")[2], 16)
        for scheme in ("http", "https"):
            with (
                pytest.raises(OSError, match=r"alert|closed|reset|disconnected|Remote end|EOF"),
                contextlib.closing(
                    urllib.request.urlopen(
                        f"{scheme}://127.0.0.1:{port}/status", timeout=DEADLINE, context=without_certificate
                    )
                ),
            ):
                pass
    assert client.submit(pow, 2, 5).result(DEADLINE) == 32


def test_a_dashboard_is_optional_and_ends_with_its_client(net: ClientNetwork) -> None:
    with net.dask(timeout=DEADLINE, set_as_default=False) as quiet:
        assert quiet.dashboard_link is None
    with net.dask(timeout=DEADLINE, set_as_default=False, dashboard=True) as loud:
        link = str(loud.dashboard_link)
        assert get(link)[0] == 200
    assert loud.dashboard_link is None
    with pytest.raises(urllib.error.URLError, match="refused"):
        get(link)


def test_a_scheduler_that_has_ended(net: ClientNetwork) -> None:
    with net.dask(timeout=DEADLINE, set_as_default=False, dashboard=True) as client:
        link = str(client.dashboard_link)
        net[1].kill()
        wait_until(lambda: get(link) == (502, "The scheduler does not answer.\n"), "the end of the scheduler")

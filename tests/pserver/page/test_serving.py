"""The address of the page, and its token."""

import http.client
import socket

import pytest

from pserver.config.page_options import DEFAULT_PORT, Address
from pserver.page.documents import Report
from pserver.page.serving import is_loopback, listen, new_token, url_of
from srp_tools.errors import ConfigurationError
from tests.support.served_page import TOKEN, served
from tests.support.small_documents import TestSource, document
from tests.support.waiting import DEADLINE


def test_a_port_that_is_taken() -> None:
    with listen(Address(port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"cannot listen on port {port} \(127\.0\.0\.1\)"):
            listen(Address(port=port))


def test_without_a_port_another_one_is_taken_if_need_be() -> None:
    with listen(Address()) as first, listen(Address()) as second:
        ports = [first.getsockname()[1], second.getsockname()[1]]
    assert len(set(ports)) == 2 and ports[1] != DEFAULT_PORT


def test_the_address_for_a_browser() -> None:
    with listen(Address("0.0.0.0", 0)) as sock:
        assert url_of(sock, "a/b") == f"http://127.0.0.1:{sock.getsockname()[1]}/?token=a%2Fb"
    if socket.has_ipv6:
        with listen(Address("::1", 0)) as sock:
            assert url_of(sock, "t").startswith("http://[::1]:")


def test_tokens_cannot_be_guessed() -> None:
    assert len({new_token() for _ in range(100)}) == 100 and len(new_token()) >= 43


def test_loopback() -> None:
    assert is_loopback("127.0.0.5") and is_loopback("::1") and not is_loopback("0.0.0.0")


def test_it_ends_quietly_while_a_browser_watches(capfd: pytest.CaptureFixture[str]) -> None:
    with served(TestSource(Report("alpha", document()))) as page:
        connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=DEADLINE)
        connection.request("GET", "/events", headers={"X-Pserver-Token": TOKEN})
        answer = connection.getresponse()
        assert answer.readline() == b"event: snapshot\n"
    connection.close()
    answer.close()
    assert capfd.readouterr().err == ""

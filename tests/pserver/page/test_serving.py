"""Where the page listens."""

import socket

import pytest

from pserver.page.serving import DEFAULT_PORT, Address, is_loopback, listen, new_token, parse_address, url_of
from srp_tools.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", Address()),
        ("8080", Address("127.0.0.1", 8080)),
        ("localhost:8080", Address("127.0.0.1", 8080)),
        ("10.0.0.1", Address("10.0.0.1")),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("::1", Address("::1")),
        ("[::1]:80", Address("::1", 80)),
    ],
)
def test_an_address(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["lab", "lab:80", "127.0.0.1:x", "127.0.0.1:65536", "[::1", "[]:80", "1.2.3:4", "-1"]
)
def test_no_address(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no address for a page: give \[ADDRESS:\]PORT"):
        parse_address(text)


def test_a_port_that_is_taken() -> None:
    with listen(Address(port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"cannot listen at 127.0.0.1, port {port}"):
            listen(Address(port=port))


def test_without_a_port_another_one_is_taken_if_need_be() -> None:
    with listen(Address()) as first, listen(Address()) as second:
        ports = {first.getsockname()[1], second.getsockname()[1]}
    assert len(ports) == 2 and DEFAULT_PORT not in ports - {DEFAULT_PORT}


def test_the_address_for_a_browser() -> None:
    with listen(Address("0.0.0.0", 0)) as sock:
        assert url_of(sock, "a/b") == f"http://127.0.0.1:{sock.getsockname()[1]}/?token=a%2Fb"
    if socket.has_ipv6:
        with listen(Address("::1", 0)) as sock:
            assert url_of(sock, "t").startswith("http://[::1]:")


def test_tokens_cannot_be_guessed() -> None:
    assert len({new_token() for _ in range(100)}) == 100 and len(new_token()) >= 43


def test_loopback() -> None:
    assert (
        is_loopback("127.0.0.5")
        and is_loopback("::1")
        and not is_loopback("0.0.0.0")
        and not is_loopback("10.0.0.1")
    )

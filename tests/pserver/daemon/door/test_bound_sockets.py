"""One port number on several addresses."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pserver.daemon.door.bound_sockets import listen_at
from srp_tools.errors import ConfigurationError

BOTH = ["127.0.0.1", "127.0.0.2", "::1"]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(stack: ExitStack, addresses: list[str], port: int = 0) -> list[tuple[str, int]]:
    sockets = [stack.enter_context(sock) for sock in listen_at(addresses, port, "--cmd-port")]
    return [sock.getsockname()[:2] for sock in sockets]


def test_all_addresses_have_one_number(stack: ExitStack) -> None:
    found = listen(stack, BOTH)
    port = found[0][1]
    assert found == [(address, port) for address in BOTH]
    for address in BOTH:
        socket.create_connection((address, port), 5).close()


def test_a_number_that_another_one_has_is_not_taken(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first number that the system picks is in use on the second address."""
    taken = stack.enter_context(socket.create_server(("127.0.0.2", 0)))
    port = taken.getsockname()[1]
    create, given = socket.create_server, iter([port])

    def give_that_one(address: tuple[str, int], **more: int) -> socket.socket:
        return create((address[0], address[1] or next(given, 0)), **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "create_server", give_that_one)
    found = listen(stack, BOTH)
    assert next(given, None) is None
    assert len({number for _, number in found}) == 1
    assert found[0][1] != port


def test_the_address_that_cannot_be_had_is_named_and_nothing_stays_open(stack: ExitStack) -> None:
    taken = stack.enter_context(socket.create_server(("127.0.0.2", 0)))
    port = taken.getsockname()[1]
    for _ in range(2):  # the first address is free again
        with pytest.raises(
            ConfigurationError,
            match=rf"--cmd-port: cannot listen on port {port} \(127.0.0.2\): Address already",
        ):
            listen(stack, BOTH, port)
    with pytest.raises(
        ConfigurationError, match=r"listen on port \d+ \(192.0.2.1\): .*choose another address with --bind"
    ):
        listen(stack, ["127.0.0.1", "192.0.2.1"])


def test_without_addresses_it_is_all_of_them(stack: ExitStack) -> None:
    [(_, port)] = listen(stack, [])
    for address in ("127.0.0.1", "::1"):
        socket.create_connection((address, port), 5).close()


def test_both_families_can_be_named_whole(stack: ExitStack) -> None:
    assert [address for address, _ in listen(stack, ["0.0.0.0", "::"])] == ["0.0.0.0", "::"]

"""Peers that dial; with TLS, and what engines do with them, in test_links."""

import socket

import pytest

from pconnect.errors import ConnectionLostError
from pconnect.protocol.frames import HELLO
from pserver.engine.greeting import greet, has_hung_up, not_expected
from srp_tools.steps import deadline_after, run
from tests.support.waiting import DEADLINE, wait_until


def accepted() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection by TCP, that which was accepted last."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialled = socket.create_connection(listener.getsockname())
        return dialled, listener.accept()[0]


def test_a_peer_hears_that_it_is_welcome_or_is_hung_up_on() -> None:
    dialled, sock = accepted()
    with dialled:
        sock.setblocking(False)
        run(greet(sock, None, bytes(16), 1, None), deadline_after(DEADLINE)).close()
        assert dialled.recv(100) == HELLO

    def refuse() -> None:
        raise not_expected()

    dialled, sock = accepted()
    with dialled:
        with pytest.raises(ConnectionLostError, match="it is not expected"):
            run(greet(sock, None, bytes(16), 1, None, check=refuse), deadline_after(DEADLINE))
        assert dialled.recv(100) == b""


def test_one_that_has_hung_up_is_seen_without_reading() -> None:
    dialled, sock = accepted()
    with sock:
        assert not has_hung_up(sock)
        dialled.close()
        wait_until(lambda: has_hung_up(sock), "the end of the connection")

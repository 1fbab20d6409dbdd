"""The login of a client at the server's side, beyond what the integration tests do with real servers."""

import socket
from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import ConnectionLostError, ProtocolError
from pconnect.protocol.frames import PREAMBLE_BYTES, Preamble, Purpose
from pconnect.values import decoder
from pserver.config import SessionSettings
from pserver.session.login import accept_client, admit
from srp_tools.steps import deadline_after, run

SETTINGS = SessionSettings(
    auth_file=None,
    data_port=12501,
    bind="127.0.0.1",
    login_timeout=5,
    proof_timeout=5,
    log_file=None,
    peer="a test",
    user="",
    kept=Path("nowhere"),
)
PREAMBLE = Preamble(Purpose.COMMAND, bytes(range(16)), 0, 3)


@pytest.mark.parametrize("answer", [b"ok", b"taken"])
def test_without_encryption_the_daemon_decides_by_network_and_node(answer: bytes) -> None:
    near, far = socket.socketpair()
    control, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    daemon.send(answer)
    with near, far, control, daemon:
        client = run(accept_client(near, SETTINGS, PREAMBLE.pack()), deadline_after(5))
        assert (client.network_id, client.node, client.tls) == (PREAMBLE.network_id, 3, None)
        if answer == b"ok":
            admit(client, control, [near, far, control], deadline_after(5))
        else:
            with pytest.raises(ProtocolError, match=r"node 3 of network 0001.* is here already"):
                admit(client, control, [near, far, control], deadline_after(5))
        data, descriptors, _, _ = socket.recv_fds(daemon, 1000, 3)
        assert len(descriptors) == 3
        for descriptor in descriptors:
            socket.close(descriptor)
        assert b'"key": "", "node": 3' in data
        said = far.recv(10_000)
        assert Preamble.unpack(said[:PREAMBLE_BYTES]).purpose is Purpose.ACCEPTED
        begin = PREAMBLE_BYTES + 2
        size = int.from_bytes(said[PREAMBLE_BYTES:begin], "big")
        offer: Any = decoder.unpack(said[begin : begin + size])
        assert offer["data_port"] == 12501


def test_a_daemon_that_stops_admits_nobody() -> None:
    near, far = socket.socketpair()
    control, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    with near, far, control, daemon:
        client = run(accept_client(near, SETTINGS, PREAMBLE.pack()), deadline_after(5))
        daemon.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionLostError, match="the server stops"):
            admit(client, control, [near, far, control], deadline_after(5))

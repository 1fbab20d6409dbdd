"""An eavesdropper on all bytes between client and server learns neither the password nor the data.

The server listens on 127.0.0.2. A forwarder on 127.0.0.1 has the same two port numbers, so a client that connects to
the forwarder uses it for both ports: it learns the data port's number from the server.
"""

import base64
from pathlib import Path

import numpy as np
import pytest

from pconnect import RemoteError, network_get_info, pconnect, precv, psend, reval
from tests.support.recorder import Recorder, recorded_server
from tests.support.servers import Server
from tests.support.waiting import DEADLINE

SENT = "marker of a value that the client sends"
RECEIVED = "marker of a value that the server sends"
COMMAND = "marker of a command"
PRINTED = "marker of what a command prints"
FAILURE = "marker of an error"
ARRAY = np.arange(1000, 1400, dtype=np.int64) * 987654321987


def work(server: Server, recorder: Recorder) -> None:
    """Do a little of everything through the recorder."""
    with pconnect(
        f"127.0.0.1:{server.cmd_port}",
        user=server.credentials.user,
        password=server.credentials.password,
        use_tls=server.use_tls,
        timeout=DEADLINE,
        local_links=False,
    ) as net:
        reval(f"x = '{COMMAND}'; got = precv(sockets[0]); psend(precv(sockets[0]), sockets[0])", net)
        psend({"text": SENT}, net)
        psend(ARRAY, net)
        assert (precv(net[1], timeout=DEADLINE) == ARRAY).all()
        half = len(RECEIVED) // 2  # so the command does not contain it
        reval(f"psend({RECEIVED[:half]!r} + {RECEIVED[half:]!r}, sockets[0])", net)
        assert precv(net[1], timeout=DEADLINE) == RECEIVED
        reval(f"print({PRINTED[:half]!r} + {PRINTED[half:]!r})", net).result(DEADLINE)
        with pytest.raises(RemoteError, match=FAILURE):
            reval(f"raise ValueError({FAILURE[:9]!r} + {FAILURE[9:]!r})", net).result(DEADLINE)
        network_get_info(net)
    recorder.wait_for_the_end()
    assert recorder.connections == {server.cmd_port: 1, server.data_port: 1}


def forms(secret: bytes) -> list[bytes]:
    """Return a secret itself, and its base64 at each of the three alignments, without the shared characters."""
    encoded = [base64.b64encode(b"x" * shift + secret)[4 if shift else 0 : -4] for shift in range(3)]
    return [secret, secret.hex().encode(), *encoded]


def contains(record: bytes | bytearray, secret: bytes) -> bool:
    return any(form in record for form in forms(secret))


def test_nothing_passes_in_clear(tmp_path: Path) -> None:
    with recorded_server(tmp_path / "server") as (server, recorder):
        work(server, recorder)
    secrets = [s.encode() for s in (SENT, RECEIVED, COMMAND, PRINTED, FAILURE, "psend(", "Traceback")]
    secrets += [ARRAY.tobytes()[at : at + 24] for at in range(0, ARRAY.nbytes, 8)]
    secrets += [server.credentials.password.encode(), np.__version__.encode() + b"\xa7version"]
    for (port, direction), record in recorder.bytes.items():
        assert len(record) > 300, (
            f"too little passed at port {port} {direction} for this test to mean anything"
        )
        for secret in secrets:
            assert not contains(record, secret), f"{secret!r} passed at port {port} {direction}"


def test_without_tls_everything_but_a_password_passes_in_clear(tmp_path: Path) -> None:
    """The test above can fail: it would find all these."""
    with recorded_server(tmp_path / "server", use_tls=False) as (server, recorder):
        work(server, recorder)
        command, data = server.cmd_port, server.data_port
        for port, direction, secret in (
            (command, "out", PRINTED),
            (data, "in", COMMAND),
            (data, "out", FAILURE),
            (data, "in", SENT),
            (data, "out", RECEIVED),
        ):
            assert contains(recorder.bytes[port, direction], secret.encode()), secret
        for direction in ("in", "out"):
            assert ARRAY.tobytes() in recorder.bytes[data, direction]


def test_base64_is_found_at_any_position() -> None:
    for shift in range(6):
        assert contains(base64.b64encode(b"." * shift + SENT.encode() + b"." * 5), SENT.encode())

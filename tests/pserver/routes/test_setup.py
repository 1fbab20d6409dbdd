from typing import Any

from pconnect.protocol.frames import Preamble, Purpose
from pserver.routes.setup import Setup
from srp_tools.certificates import NetworkAuthority, NodeKey

NETWORK = bytes(range(16))


def setup(identity: list[Any] | None) -> Setup:
    return Setup(
        NETWORK,
        b"",
        2,
        identity,
        directory="/",
        directory_is_clients=True,
        session_folder="/",
        limits=[1, 1],
        peer_timeout=30.0,
        timeout=20.0,
    )


def test_without_encryption_nothing_proves_who_a_node_is() -> None:
    made = setup(None)
    assert made.tls() is None and made.link(1) is None
    assert made.preamble(1) == Preamble(Purpose.DATA, NETWORK, 2, 1) and made.preamble(1).key == b""


def test_what_proves_who_a_node_is() -> None:
    authority, key = NetworkAuthority(NETWORK), NodeKey()
    own = key.identity(NETWORK, 2, authority.sign(key.public_bytes(), 2), authority.certificate)
    made = setup([own.key_pem, own.certificate, own.authority, {1: ["/socket", b"token"]}, b"k" * 32])
    tls = made.tls()
    assert tls is not None and tls.identity.node == 2
    assert made.link(1) == ("/socket", b"token") and made.link(3) is None
    assert made.preamble(3).key == b"k" * 32

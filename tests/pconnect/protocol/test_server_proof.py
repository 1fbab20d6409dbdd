from typing import Any

import pytest

from pconnect.errors import ProtocolError
from pconnect.protocol.server_proof import SEED_BYTES, ServerKey, proved_id

KEY, OTHER = ServerKey(bytes(SEED_BYTES)), ServerKey(b"\1" * SEED_BYTES)
HELLO = b"\x16\x03\x01 a client"


def offer(key: ServerKey = KEY, hello: bytes = HELLO, **more: object) -> dict[str, Any]:
    return {"server": key.id, "proof": key.prove(hello), **more}


def test_a_server_proves_its_id() -> None:
    assert proved_id(offer(), HELLO) == KEY.id == ServerKey(bytes(SEED_BYTES)).id
    assert len(KEY.id) == 32 and KEY.id != OTHER.id


def test_without_a_login_there_is_no_id() -> None:
    assert proved_id({}, HELLO) == proved_id({"server": ""}, HELLO) == ""


@pytest.mark.parametrize(
    "false",
    [
        offer(server=OTHER.id),  # another server's id
        offer(hello=b"\x16\x03\x01 another client"),  # a signature for another login
        offer(proof=KEY.prove(HELLO)[:32] + OTHER.prove(HELLO)[32:]),
        offer(proof=KEY.prove(HELLO)[:-1]),
        offer(proof=b"\xff" * 96),
        offer(proof="text"),
        offer(proof=None),
        {"server": KEY.id},
        offer(server=5),
    ],
    ids=range(9),
)
def test_what_is_not_proved_is_refused(false: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="does not prove"):
        proved_id(false, HELLO)

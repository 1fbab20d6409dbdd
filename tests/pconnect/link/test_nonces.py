from pconnect.link.nonces import new_nonce
from pconnect.protocol.frames import NONCE_BYTES


def test_no_nonce_comes_twice_and_later_ones_are_greater() -> None:
    nonces = [new_nonce() for _ in range(1000)]
    assert {len(nonce) for nonce in nonces} == {NONCE_BYTES}
    assert len(set(nonces)) == 1000
    assert [nonce[:8] for nonce in nonces] == sorted(nonce[:8] for nonce in nonces)

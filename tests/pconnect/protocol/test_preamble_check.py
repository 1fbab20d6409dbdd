import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.protocol.frames import PREAMBLE_BYTES, Preamble, Purpose
from pconnect.protocol.preamble_check import PreambleCheck

KEY = bytes(range(32))
PREAMBLE = Preamble(Purpose.DATA, bytes(16), 1, 2, 3, KEY)


def nonce(time: int, rest: int = 0) -> bytes:
    return time.to_bytes(8, "big") + rest.to_bytes(8, "big")


@pytest.mark.parametrize("key", [KEY, b""])
def test_a_member_is_known_by_the_key(key: bytes) -> None:
    received = Preamble(Purpose.DATA, bytes(16), key=key).pack(nonce(1))
    assert PreambleCheck(key).is_of_member(received)
    assert PreambleCheck(key).is_of_member(bytearray(received))
    assert not PreambleCheck(b"another").is_of_member(received)


@given(st.integers(0, PREAMBLE_BYTES - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(position: int, change: int) -> None:
    received = bytearray(PREAMBLE.pack(nonce(1)))
    received[position] ^= change
    assert not PreambleCheck(KEY).is_of_member(received)


def test_what_was_here_is_not_new_in_whatever_order_it_came() -> None:
    for order in itertools.permutations([nonce(1), nonce(1, 1), nonce(2)]):
        check = PreambleCheck(KEY)
        packed = [PREAMBLE.pack(each) for each in order]
        assert [check.is_new(each) for each in packed + packed[::-1]] == [True] * 3 + [False] * 3


@given(st.lists(st.integers(0, 40), max_size=80))
def test_whatever_is_forgotten_is_not_new_either(times: list[int]) -> None:
    check = PreambleCheck(KEY, max_nonces=3)
    accepted: set[int] = set()
    for time in times:
        is_new = check.is_new(PREAMBLE.pack(nonce(time + 1)))
        assert is_new == (time not in accepted and (len(accepted) <= 3 or time > sorted(accepted)[-4]))
        if is_new:
            accepted.add(time)
    assert len(check._seen) == len(check._earliest) <= 3

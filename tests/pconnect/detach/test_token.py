"""Tokens: packing and unpacking, and texts that are not tokens."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.detach.token import Token, unpack_token
from pconnect.errors import ConfigurationError

NUMBERS = st.sets(st.integers(1, 300), max_size=50)
TOKEN = Token(bytes(16), bytes(24), (("hostA", 12502), ("::1", 7)), {1: [1, 2, 3, 9], 2: [4]}, frozenset({3}))


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=1), NUMBERS, NUMBERS)
def test_round_trip(network: bytes, secret: bytes, jobs: set[int], pickled: set[int]) -> None:
    token = Token(network, secret, (("a", 1), ("b", 2)), {2: sorted(jobs)}, frozenset(pickled))
    assert unpack_token(f" {token.pack()}\n") == token


def test_many_jobs_take_little() -> None:
    token = Token(bytes(16), bytes(24), (("a", 1),), {1: list(range(1, 10**5))}, frozenset())
    assert len(token.pack()) < 400
    assert len(unpack_token(token.pack()).jobs[1]) == 10**5 - 1


def packed(**fields: object) -> str:
    told = json.loads(base64.urlsafe_b64decode(TOKEN.pack())) | fields
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (None, "recover=None is not a token: give the text"),
        ("", "not a complete token"),
        (TOKEN.pack()[:-9], "not a complete token"),
        ("ä", "not a complete token"),
        (base64.urlsafe_b64encode(b"[]").decode(), "not a complete token"),
        (packed(version=2), "has version 2, this software reads 1"),
        (packed(secret="x"), "not a complete token"),
        (packed(jobs=[[1, 5]]), "not a complete token"),
        (packed(jobs=[[3, [[1, 1]]]]), "contradicts itself"),
        (packed(network="00"), "contradicts itself"),
        (packed(jobs=[[1, [[1, 10**12]]]]), "contradicts itself"),
    ],
)
def test_invalid_tokens_are_refused(token: object, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        unpack_token(token)

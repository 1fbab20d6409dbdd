import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pserver.pool.member import MOST_ADDRESSES, read_member
from srp_tools.errors import ConfigurationError

WORDS: dict[str, Any] = {"id": "0a" * 16, "name": "beta", "addresses": ["10.0.0.2", "gate:22502"], "slots": 4}


def test_what_is_read_can_be_written() -> None:
    member = read_member(WORDS)
    assert member.as_json() == WORDS
    assert read_member(member.as_json()) == member


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"id": "0A" * 16}, "32 hexadecimal"),
        ({"id": "0a" * 15}, "32 hexadecimal"),
        ({"name": ""}, "1 to 64"),
        ({"name": "x" * 65}, "1 to 64"),
        ({"name": "\x1b[31mred"}, "printable"),
        ({"name": 5}, "must have the id, name"),
        ({"slots": -1}, "slots"),
        ({"slots": 10**9}, "slots"),
        ({"slots": True}, "slots"),
        ({"addresses": ["10.0.0.2"] * 17}, "at most 16"),
        ({"addresses": ["10.0.0.2"] * 10**6}, "at most 16"),
        ({"addresses": [5]}, "printable text"),
        ({"addresses": ["x" * 301]}, "at most 300"),
        ({"addresses": ["beta*3"]}, "address of one server"),
        ({"addresses": ["http://beta"]}, "URL"),
        ({"addresses": ["beta\n"]}, "printable"),
        ({"addresses": ["unix:/run/other"]}, "address of one server"),
        ({"addresses": "beta"}, "must have the id, name"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        read_member(WORDS | wrong)


@given(
    st.dictionaries(
        st.sampled_from(["id", "name", "addresses", "slots"]),
        st.none() | st.integers() | st.text() | st.lists(st.text() | st.integers()),
    )
)
def test_rubbish_raises_one_kind_of_error(words: dict[str, object]) -> None:
    with contextlib.suppress(ConfigurationError):
        read_member(words)


def test_where_it_was_seen_is_among_its_addresses() -> None:
    member = read_member(WORDS)
    assert member.with_address("192.0.2.1", is_first=True).addresses == (
        "192.0.2.1",
        "10.0.0.2",
        "gate:22502",
    )
    assert member.with_address("10.0.0.2", is_first=False).addresses == ("gate:22502", "10.0.0.2")
    with pytest.raises(ConfigurationError, match="True"):
        member.with_address("10.0.0.5:True", is_first=True)
    many = member._replace(addresses=tuple(f"10.0.0.{n}" for n in range(MOST_ADDRESSES)))
    for is_first in (True, False):
        seen = many.with_address("192.0.2.1", is_first=is_first).addresses
        assert len(seen) == MOST_ADDRESSES and seen[0 if is_first else -1] == "192.0.2.1"

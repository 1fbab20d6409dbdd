"""The wire form of a node's wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.errors import ProtocolError
from pconnect.protocol.wait_states import State, Wait, pack_state, read_state

NUMBERS = st.lists(st.integers(0, 2), min_size=1).map(tuple)
WAITS = st.builds(
    Wait,
    st.text(),
    NUMBERS,
    st.none() | NUMBERS,
    st.integers(0, 2**31),
    st.just(False),
    st.just(False),  # other nodes do not see a time limit
)
COUNTS = st.tuples(*[st.integers(-1, 2**40)] * 3)
STATES = st.builds(
    State,
    st.integers(0),
    st.integers(0),
    st.none() | WAITS,
    COUNTS,
    COUNTS,
    st.just(()),
)


@given(STATES)
def test_a_state_arrives_as_it_was(state: State) -> None:
    assert read_state(pack_state(state)) == state


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [0, 1, None, [0], [0], 0],
        [0, 1, None, [0], [0, 0]],
        [0, 1, None, ["x"], [0]],
        [0, "x", None, [0], [0]],
        [0, 1, ["precv", [], None, 0], [0], [0]],
        [0, 1, ["precv", [1], None, 0], [0], [0]],
        [0, 1, ["precv", [-1], None, 0], [0], [0]],
        [0, 1, ["precv", [0], [1], 0], [0], [0]],
        [0, 1, ["precv", 0, None, 0], [0], [0]],
        [0, 1, [1, [0], None, 0], [0], [0]],
    ],
)
def test_malformed_states_are_refused(value: object) -> None:
    with pytest.raises(ProtocolError, match="a malformed STATE"):
        read_state(value)

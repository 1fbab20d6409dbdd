"""The life of a link: every event in every state, and its effect on a connection."""

import pytest

from pconnect.errors import InternalError
from pconnect.link.link_state import LINK_TRANSITIONS, LinkEvent, LinkLife, LinkState
from tests.support.transitions import all_pairs, assert_documented


@pytest.mark.parametrize(("state", "event"), all_pairs(LinkState, LinkEvent))
def test_every_event_in_every_state(state: LinkState, event: LinkEvent) -> None:
    life = LinkLife(state, "the link to node 3 (host3)")
    life.was_reported = True
    following = LINK_TRANSITIONS[state].get(event)
    if following is None:
        with pytest.raises(InternalError) as error:
            life.happen(event)
        assert (
            error.value.args[0]
            == f"the link to node 3 (host3) is {state.name}, where {event.name} cannot happen"
        )
        assert (life.state, life.generation, life.was_reported) == (state, 0, True)
        return
    life.happen(event)
    assert life.state is following
    is_reset = event is LinkEvent.RESET
    assert (life.generation, life.was_reported) == (int(is_reset), not is_reset)


def test_this_node_itself_never_has_a_link() -> None:
    assert set(LINK_TRANSITIONS[LinkState.OWN].values()) == {LinkState.OWN}


def test_every_link_can_be_made_again() -> None:
    for state in set(LinkState) - {LinkState.OWN}:
        assert LINK_TRANSITIONS[state][LinkEvent.RESET] is LinkState.AWAITED


def test_the_page_has_the_table() -> None:
    assert_documented("link.md", LINK_TRANSITIONS)

"""The life of a node: every event in every state, and paths through the states."""

import math

import pytest

from pconnect.errors import EngineDiedError, InternalError
from pconnect.session.node_state import DEAD_STATES, NODE_TRANSITIONS, NodeEvent, NodeLife, NodeState
from tests.support.transitions import all_pairs, assert_documented

DEATH = EngineDiedError("the engine died")


def way_to(state: NodeState) -> list[NodeEvent]:
    """Return the events of a shortest path from the beginning to a state."""
    ways: dict[NodeState, list[NodeEvent]] = {NodeState.JOINING: []}
    for reached in (pending := [NodeState.JOINING]):
        for event, following in NODE_TRANSITIONS[reached].items():
            if following not in ways:
                ways[following] = [*ways[reached], event]
                pending.append(following)
    return ways[state]


def after(*events: NodeEvent) -> NodeLife:
    life = NodeLife("node 3 (host3)")
    for event in events:
        happen(life, event)
    return life


def happen(life: NodeLife, event: NodeEvent) -> None:
    """Apply an event, with the reason of the death where the client gives one."""
    if event in {
        NodeEvent.ENGINE_DIED,
        NodeEvent.SESSION_ENDED,
        NodeEvent.RESTART_ASKED,
        NodeEvent.LOGGED_IN,
        NodeEvent.ENGINE_REPLACED,
        NodeEvent.RESTART_FAILED,
    }:
        life.die(event, DEATH, 5.0)
    else:
        life.happen(event)


@pytest.mark.parametrize(("state", "event"), all_pairs(NodeState, NodeEvent))
def test_every_event_in_every_state(state: NodeState, event: NodeEvent) -> None:
    life = after(*way_to(state))
    assert life.state is state
    following = NODE_TRANSITIONS[state].get(event)
    assert life.allows(event) == (following is not None)
    if following is None:
        with pytest.raises(InternalError) as error:
            happen(life, event)
        assert error.value.args[0] == f"node 3 (host3) is {state.name}, where {event.name} cannot happen"
        following = state
    else:
        happen(life, event)
    assert life.state is following
    assert (life.death is DEATH) == (following in DEAD_STATES)


def test_the_states_shown_to_users() -> None:
    told = {state: after(*way_to(state)).public_state for state in NodeState}
    assert {state.name: word for state, word in told.items()} == {
        "JOINING": "open",
        "OPEN": "open",
        "CUT": "lost",
        "RESTARTING": "died",
        "REJOINING": "died",
        "REJOINED": "died",
        "DIED": "died",
        "LOST": "lost",
        "GONE": "died",
        "CLOSING": "open",
        "CLOSED": "closed",
    }


def test_a_restart() -> None:
    life = after(NodeEvent.MESHED, NodeEvent.RESTART_ASKED)
    for event in (NodeEvent.ENGINE_REPLACED, NodeEvent.MESHED, NodeEvent.RESTART_DONE):
        assert life.is_restarting and life.public_state == "died"
        happen(life, event)
    assert (life.state, life.is_restarting, life.death) == (NodeState.OPEN, False, None)


@pytest.mark.parametrize("known_before", [False, True])
def test_the_time_of_death_is_when_it_was_known_first(known_before: bool) -> None:
    life = after(NodeEvent.MESHED)
    assert life.died_at == -math.inf
    life.die(NodeEvent.RESTART_ASKED, DEATH, 5.0)
    life.die(NodeEvent.ENGINE_REPLACED, DEATH, None if known_before else 6.0)
    assert life.died_at == (5.0 if known_before else 6.0)


def test_only_a_node_with_an_engine_is_closing() -> None:
    assert after(NodeEvent.MESHED, NodeEvent.CLOSE_ASKED).is_closing
    assert after(NodeEvent.MESHED, NodeEvent.CLOSE_ASKED, NodeEvent.CLOSE_ANSWERED).is_closing
    assert not after(NodeEvent.MESHED, NodeEvent.ENGINE_DIED, NodeEvent.CLOSE_ASKED).is_closing


def test_a_death_that_changes_nothing_any_more_is_not_kept() -> None:
    life = after(NodeEvent.MESHED, NodeEvent.CLOSE_ASKED, NodeEvent.CLOSE_ANSWERED, NodeEvent.ENGINE_DIED)
    assert (life.state, life.death) == (NodeState.CLOSED, None)


def test_the_page_has_the_table_and_draws_every_state() -> None:
    assert_documented("node.md", NODE_TRANSITIONS)

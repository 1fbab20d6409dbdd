"""The life cycles of a session, its engine and a hand-over: every event in every state, and paths through them."""

import enum
from collections.abc import Mapping
from typing import Any

import pytest

from pconnect.errors import InternalError
from pserver.session.lifecycle import (
    ENGINE_TRANSITIONS,
    HAND_OVER_TRANSITIONS,
    SUPERVISOR_TRANSITIONS,
    EngineEvent,
    EngineLifecycle,
    EngineState,
    HandOverEvent,
    HandOverLifecycle,
    HandOverState,
    SupervisorEvent,
    SupervisorLifecycle,
    SupervisorState,
)
from tests.support.transitions import all_pairs, assert_documented

Table = Mapping[Any, Mapping[Any, Any]]
MACHINES: list[tuple[Any, type[enum.Enum], type[enum.Enum], Table, str]] = [
    (SupervisorLifecycle, SupervisorState, SupervisorEvent, SUPERVISOR_TRANSITIONS, "supervisor.md"),
    (EngineLifecycle, EngineState, EngineEvent, ENGINE_TRANSITIONS, "engine.md"),
    (HandOverLifecycle, HandOverState, HandOverEvent, HAND_OVER_TRANSITIONS, "hand_over.md"),
]


def events_to(state: enum.Enum, first: enum.Enum, transitions: Table) -> list[enum.Enum]:
    """Return the events of a shortest path from the first state to another state."""
    ways: dict[enum.Enum, list[enum.Enum]] = {first: []}
    for reached in (pending := [first]):
        for event, following in transitions[reached].items():
            if following not in ways:
                ways[following] = [*ways[reached], event]
                pending.append(following)
    return ways[state]


@pytest.mark.parametrize(
    ("make", "transitions", "state", "event"),
    [
        pytest.param(make, transitions, state, event, id=f"{make.__name__}-{state.name}-{event.name}")
        for make, states, events, transitions, _ in MACHINES
        for state, event in all_pairs(states, events)
    ],
)
def test_every_event_in_every_state(make: Any, transitions: Table, state: Any, event: Any) -> None:
    life = make()
    for each in events_to(state, life.state, transitions):
        life.handle(each)
    assert life.state is state
    following = transitions[state].get(event)
    assert life.allows(event) == (following is not None)
    if following is None:
        with pytest.raises(InternalError, match=f" is {state.name}, where {event.name} cannot happen"):
            life.handle(event)
        assert life.state is state
    else:
        assert life.handle(event) is following
        assert life.state is following


@pytest.mark.parametrize("machine", MACHINES, ids=[machine[0].__name__ for machine in MACHINES])
def test_the_documents_have_the_table(machine: Any) -> None:
    _, states, events, transitions, page = machine
    assert set(transitions) == set(states)
    assert {event for row in transitions.values() for event in row} == set(events)
    assert_documented(page, transitions)


@pytest.mark.parametrize("machine", MACHINES, ids=[machine[0].__name__ for machine in MACHINES])
def test_only_the_last_state_is_the_end(machine: Any) -> None:
    _, states, _, transitions, _ = machine
    final = [state for state in states if set(transitions[state].values()) <= {state}]
    assert final == [list(states)[-1]]


def test_a_session_is_served_until_it_closes_stops_or_ends() -> None:
    life = SupervisorLifecycle()
    served = []
    for life.state in SupervisorState:
        served += [life.state] * life.is_serving
    assert served == [SupervisorState.OPEN, SupervisorState.ORPHANED, SupervisorState.DETACHED]


def test_an_engine_has_a_process_where_that_can_end() -> None:
    life = EngineLifecycle()
    for life.state in EngineState:
        assert life.has_process == (EngineEvent.ENDED in ENGINE_TRANSITIONS[life.state])


def test_the_client_s_message_to_a_detached_session_is_always_out_of_turn() -> None:
    life = HandOverLifecycle()
    life.state = HandOverState.DETACHED
    assert not any(life.allows(event) for event in HandOverEvent)
    assert life.uses_store

"""Every event in every state; what is expected stands in doc/states/session.md."""

import enum
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pserver.session.lifecycle import (
    ENGINE_TRANSITIONS,
    HAND_OVER_TRANSITIONS,
    SESSION_TRANSITIONS,
    EngineEvent,
    EngineLifecycle,
    EngineState,
    HandOverEvent,
    HandOverLifecycle,
    HandOverState,
    SessionEvent,
    SessionLifecycle,
    SessionState,
)

PAGE = Path(__file__).parents[3] / "doc" / "states" / "session.md"
MACHINES: list[tuple[str, Any, type[enum.Enum], type[enum.Enum], Mapping[Any, Mapping[Any, Any]]]] = [
    ("Session", SessionLifecycle, SessionState, SessionEvent, SESSION_TRANSITIONS),
    ("Engine", EngineLifecycle, EngineState, EngineEvent, ENGINE_TRANSITIONS),
    ("Hand-over", HandOverLifecycle, HandOverState, HandOverEvent, HAND_OVER_TRANSITIONS),
]
NAMES = [machine[0] for machine in MACHINES]


def section(name: str) -> str:
    """Return the part of the page about one machine."""
    return PAGE.read_text(encoding="utf-8").partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def documented(name: str) -> dict[tuple[str, str], str]:
    """Return the next state by state and event, as the page has it."""
    rows = re.findall(r"^\| ([A-Z]+) \| ([A-Z]+) \| ([A-Z]+) \|$", section(name), re.MULTILINE)
    return {(state, event): following for state, event, following in rows}


@pytest.mark.parametrize(
    ("machine", "state", "event"),
    [
        pytest.param(machine, state, event, id=f"{machine[0]}-{state.name}-{event.name}")
        for machine in MACHINES
        for state, event in itertools.product(machine[2], machine[3])
    ],
)
def test_every_event_in_every_state(machine: Any, state: Any, event: Any) -> None:
    name, make, *_ = machine
    life = make()
    life.state = state
    following = documented(name).get((state.name, event.name))
    assert life.allows(event) == (following is not None)
    if following is None:
        with pytest.raises(
            RuntimeError, match=f"internal error: .*{event.name} cannot happen .*{state.name}"
        ):
            life.handle(event)
        assert life.state is state
    else:
        assert life.handle(event).name == following
        assert life.state.name == following


@pytest.mark.parametrize("machine", MACHINES, ids=NAMES)
def test_the_page_has_each_state_and_event_with_its_meaning(machine: Any) -> None:
    name, _, states, events, _ = machine
    meanings = re.findall(r"^\| ([A-Z]+) \| [^|]+ \|$", section(name), re.MULTILINE)
    assert meanings == [each.name for each in (*states, *events)]
    drawn = section(name).split("```")[1]
    assert [state.name for state in states if state.name not in drawn] == []


@pytest.mark.parametrize("machine", MACHINES, ids=NAMES)
def test_every_state_can_be_reached_and_left_for_the_end(machine: Any) -> None:
    _, make, states, _, transitions = machine
    reached = {make().state}
    for _ in states:
        reached |= {following for state in reached for following in transitions[state].values()}
    assert reached == set(states)
    final = {state for state in states if set(transitions[state].values()) <= {state}}
    assert final == {list(states)[-1]}


def test_a_session_is_served_until_it_closes_stops_or_ends() -> None:
    life = SessionLifecycle()
    served = {}
    for state in SessionState:
        life.state = state
        served[state] = life.is_serving
    assert [state for state in SessionState if served[state]] == [SessionState.OPEN, SessionState.DETACHED]


def test_an_engine_has_a_process_where_that_can_end() -> None:
    life = EngineLifecycle()
    for state in EngineState:
        life.state = state
        assert life.has_process == (EngineEvent.ENDED in ENGINE_TRANSITIONS[state])

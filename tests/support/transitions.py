"""Tests for all state machines: every event in every state, and the table in the documents."""

import enum
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

StateT = TypeVar("StateT", bound=enum.Enum)
EventT = TypeVar("EventT", bound=enum.Enum)

PAGES = Path(__file__).parents[2] / "doc" / "states"


def all_pairs(states: type[StateT], events: type[EventT]) -> list[tuple[StateT, EventT]]:
    """Return every event in every state, for a parametrised test."""
    return list(itertools.product(states, events))


def as_markdown(transitions: Mapping[StateT, Mapping[EventT, StateT]]) -> str:
    """Return the table as the documents show it; (same) marks an event that changes nothing."""
    lines = ["| state | event | next state |", "| --- | --- | --- |"]
    for state, row in transitions.items():
        for event, following in row.items():
            lines.append(
                f"| {state.name} | {event.name} | {'(same)' if following is state else following.name} |"
            )
    return "\n".join(lines) + "\n"


def assert_documented(page: str, transitions: Mapping[StateT, Mapping[EventT, StateT]]) -> None:
    """Fail if a page of doc/states does not end with this table, or its text does not name every state."""
    text = (PAGES / page).read_text(encoding="utf-8")
    assert text.endswith("\n\n" + as_markdown(transitions))
    drawn = text.partition("| state |")[0]
    assert [state.name for state in transitions if state.name not in drawn] == []

"""State machines as tables, as in h11: for each state, the allowed events and the next state of each.

A class with states stores the current one and calls `next_state` for each event. An event that the table does not allow
is a bug in the caller: it raises an error, and the state is unchanged.
"""

import enum
from collections.abc import Mapping
from typing import TypeVar

from pconnect.errors import InternalError

StateT = TypeVar("StateT", bound=enum.Enum)
EventT = TypeVar("EventT", bound=enum.Enum)


def next_state(
    transitions: Mapping[StateT, Mapping[EventT, StateT]], state: StateT, event: EventT, what: str
) -> StateT:
    """Return the state that follows `state` after `event`.

    `transitions`: the table of the machine. `state`, `event`: the current state, and the event. `what`: the name of the
    machine, for the error. Raises `InternalError` if the table does not allow this event in this state.

    Examples
    --------
    >>> Door = enum.Enum("Door", "OPEN CLOSED")
    >>> Push = enum.Enum("Push", "PUSHED PULLED")
    >>> doors = {Door.OPEN: {Push.PUSHED: Door.CLOSED}, Door.CLOSED: {Push.PULLED: Door.OPEN}}
    >>> next_state(doors, Door.OPEN, Push.PUSHED, "the door")
    <Door.CLOSED: 2>
    >>> next_state(doors, Door.OPEN, Push.PULLED, "the door")
    Traceback (most recent call last):
        ...
    pconnect.errors.InternalError: the door is OPEN, where PULLED cannot happen (a bug in pserver ...: please report it)
    """
    following = transitions[state].get(event)
    if following is None:
        raise InternalError(f"{what} is {state.name}, where {event.name} cannot happen")
    return following

"""Tables of states and events."""

import enum

import pytest

from pconnect.errors import InternalError
from pconnect.protocol.transitions import next_state
from tests.support.transitions import all_pairs, as_markdown


class Lamp(enum.Enum):
    OFF = "dark"
    ON = "bright"


class Press(enum.Enum):
    SWITCHED = "somebody pressed the switch"
    BROKEN = "the bulb broke"


LAMP = {Lamp.OFF: {Press.SWITCHED: Lamp.ON}, Lamp.ON: {Press.SWITCHED: Lamp.OFF, Press.BROKEN: Lamp.ON}}


@pytest.mark.parametrize(("state", "event"), all_pairs(Lamp, Press))
def test_every_event_leads_where_the_table_says_or_raises(state: Lamp, event: Press) -> None:
    if event in LAMP[state]:
        assert next_state(LAMP, state, event, "the lamp") is LAMP[state][event]
        return
    with pytest.raises(InternalError, match="the lamp is OFF, where BROKEN cannot happen"):
        next_state(LAMP, state, event, "the lamp")


def test_the_documents_have_one_line_for_each_transition() -> None:
    assert as_markdown(LAMP).splitlines()[2:] == [
        "| OFF | SWITCHED | ON |",
        "| ON | SWITCHED | OFF |",
        "| ON | BROKEN | (same) |",
    ]

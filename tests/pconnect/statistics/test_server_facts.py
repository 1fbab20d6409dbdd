import dataclasses
import math

import pytest

from pconnect.statistics.server_facts import ServerFacts
from tests.pconnect.statistics.test_document import DOCUMENT


def test_facts_come_from_the_document() -> None:
    facts = ServerFacts.of(
        "alpha:1", DOCUMENT | {"server": {"name": "one", "version": "1"}, "queue": {"waiting": 4}}
    )
    assert (facts.host, facts.name, facts.version) == ("alpha:1", "one", "1")
    assert (facts.memory_free, facts.load, facts.slots, facts.free_slots) == (2.5e9, 1.26, 3, 2)
    assert (facts.waiting, facts.sessions) == (4, 5)
    assert math.isnan(facts.disk_free) and not facts.disk_free > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        facts.load = 0.0  # type: ignore[misc]


@pytest.mark.parametrize("odd", [None, True, "x", [], {}, math.nan, [None]])
def test_malformed_values_of_a_server_are_unknown(odd: object) -> None:
    document = dict.fromkeys(("server", "machine", "slots", "queue", "sessions"), odd)
    facts = ServerFacts.of("alpha", document)
    assert facts.name == "" and not facts.memory_free > 0

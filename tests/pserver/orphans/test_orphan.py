"""A supervisor's state for a client that vanishes, tested without a supervisor."""

import math
from typing import Any

import pytest

from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pserver.orphans.client_link import KEPT_BYTES
from pserver.orphans.orphan import Orphan


def meshed(orphan: Orphan, **facts: Any) -> dict[str, Any]:
    value = {"pid": 7, **facts}
    assert orphan.note(Message(Kind.MESHED, 0, value), is_orphaned=False)
    return value


@pytest.mark.parametrize(
    ("timeout", "wanted", "is_possible"),
    [(60.0, True, True), (60.0, False, False), (0.0, True, False), (60.0, None, False)],
)
def test_both_sides_have_to_want_it(timeout: float, wanted: bool | None, is_possible: bool) -> None:
    orphan = Orphan(timeout)
    setup: dict[str, Any] = {"network": b""} if wanted is None else {"network": b"", "resumable": wanted}
    told = orphan.set_up(setup)
    assert told == {"network": b"", "kept_bytes": KEPT_BYTES if is_possible else 0}
    assert not orphan.is_possible  # before the engine is a member of the network
    assert meshed(orphan)["orphan_seconds"] == timeout
    assert orphan.is_possible is is_possible


def test_what_the_engine_says_without_a_client() -> None:
    orphan = Orphan(60.0)
    note = Message(Kind.FRONT_END, 1, ["log", {}])
    assert [orphan.note(note, is_orphaned=is_orphaned) for is_orphaned in (False, True)] == [True, True]
    assert orphan.notes == 2
    assert not orphan.note(Message(Kind.STATE, 3, []), is_orphaned=True)
    assert orphan.note(Message(Kind.STATE, 3, []), is_orphaned=False)
    meshed(orphan)
    assert orphan.notes == 0


def test_the_time_begins_and_ends_with_the_absence() -> None:
    orphan = Orphan(90.0)
    assert (orphan.time_left(), orphan.since) == (math.inf, 0.0)
    orphan.begin()
    assert 80 < orphan.time_left() <= 90
    assert orphan.since > 0
    orphan.end()
    assert (orphan.time_left(), orphan.since) == (math.inf, 0.0)
    assert orphan.expiry == "its client disconnected and did not come back within 1.5 minutes"


def test_what_a_client_hears_that_comes_back() -> None:
    orphan = Orphan(60.0)
    facts = meshed(orphan, cores=2)
    [(kind, told)] = orphan.facts(running=4, begun=5, is_ready=True)
    assert (kind, told) == (Kind.MESHED, facts | {"running": 4, "begun": 5})
    death = {"how": "SIGKILL", "last_output": "", "command": 4}
    orphan.note_death(death)
    assert orphan.facts(running=4, begun=5, is_ready=False) == [
        (Kind.MESHED, facts | {"running": 0, "begun": 5}),
        (Kind.DIED, death),
    ]
    meshed(orphan)  # a new engine
    [_, (_, unfinished)] = orphan.facts(running=0, begun=0, is_ready=False)
    assert unfinished["how"] == "the client disconnected while the engine was being restarted"

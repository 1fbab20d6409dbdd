"""Messages from servers: a malformed value raises `ProtocolError` and no other error."""

import math
from typing import Any

import pytest

from pconnect.errors import ProtocolError
from pconnect.protocol.answer_forms import check_answer, check_failure
from pconnect.protocol.kinds import ACCEPTS, Kind, Role

ODD: list[Any] = [
    None, True, -1, 2**64, 1.5, math.nan, "x", b"x", [], {}, [[]], {"x": 1}, {1: 2}, [None] * 2, [1] * 4, ["x", []],
]  # fmt: skip
DONE = {"jobs_done": 3, "processing_seconds": 0.5}
WORKER = [1, 4711, DONE, None]
ENDED = {"how": "exit status 1", "job": 0, "seconds": 0.0, "results": b"", "outputs": [[b"x", 0], [b"", 7]]}
FAILURE = {
    "type": "ValueError", "bases": ["ValueError"], "message": "x", "traceback": "", "values_sent": 0, "seconds": 0.1,
}  # fmt: skip
#: For each kind with a form, values that servers send.
MEMBER = {
    "id": "11", "name": "beta", "addresses": ["10.0.0.2"], "slots": 2, "how": "joined", "heard": 0.5, "gone": False,
    "why": "",
}  # fmt: skip
RIGHT: dict[Kind, list[Any]] = {
    Kind.MESHED: [{"errors": {"2": "no answer"}}, {"pid": 4711, "python": "3.11", "packages": {}}],
    Kind.DIED: [{"how": "SIGKILL", "last_output": ""}, {"how": "SIGKILL", "last_output": "", "command": 7}],
    Kind.FACTS: [
        {"load": 0.5, "memory_bytes": None, "daemon": True, "jobs": None},
        {"jobs": {"slots": None, "workers": [WORKER], "ended": {}}},
    ],
    Kind.NEIGHBOURS: [{"id": "00", "members": [MEMBER, MEMBER | {"heard": None, "gone": True}]}],
    Kind.CLOSED: [True],
    Kind.STOPPING: ["the server stops"],
    Kind.RESTART: [None, "no room"],
    Kind.MEMBERS: [None],
    Kind.UNREACHED: [["refused", 0], ["refused", 3]],
    Kind.RELAY: [None, "no room"],
    Kind.STATISTICS: [{"error": "it has ended"}, {"time": 1.5, "slots": [{"slot": 0}]}],
    Kind.RENEW: [None],
    Kind.BACK: [[0, 7, 2], "another client is there"],
    Kind.KNOWN: [["a = 1", True], 3],
    Kind.POOL: [{"slots": 4, "ready": True, "died": ""}],
    Kind.WORKER: [{"pid": 4711, "command": 0}, "no worker", {"never": "no folder"}],
    Kind.RUNNING: [[1, 0.2]],
    Kind.PRINTED: [[1, 2, 0, b"x"]],
    Kind.ENDED: [ENDED],
    Kind.STREAM: [[1, b"x"], [2, b""]],
    Kind.CREDIT: [[0, 7], [0, 0]],
    Kind.KEEP: [None, "no room"],
    Kind.LIMIT: [None, "no room"],
    Kind.DETACH: [None, "no room"],
    Kind.LEAVE: [None, "no room"],
    Kind.RECOVER: ["nothing is kept", [[1, "a job", None, 5.0]]],
    Kind.TAKE: [True],
    Kind.RECALL: [[1, True]],
}
#: Kinds whose value is not used, or is checked by its receiver.
OTHERS = {
    Kind.VALUE, Kind.COLLECTIVE, Kind.LEFT, Kind.DONE, Kind.OUTPUT, Kind.FRONT_END, Kind.STATE, Kind.YIELD, Kind.RESULT,
    Kind.REPORT,
}  # fmt: skip
CLIENTS = (Role.CLIENT_DATA, Role.CLIENT, Role.SCHEDULER, Role.EMPLOYER)


def is_taken(kind: Kind, value: object) -> bool:
    try:
        check_answer(kind, value)
    except ProtocolError:
        return False
    return True


def test_every_kind_that_a_client_takes_has_a_form_or_is_checked_elsewhere() -> None:
    assert {kind for role in CLIENTS for kind in ACCEPTS[role]} == RIGHT.keys() | OTHERS


@pytest.mark.parametrize("kind", RIGHT)
def test_what_servers_say_has_the_form(kind: Kind) -> None:
    for value in RIGHT[kind]:
        check_answer(kind, value)


@pytest.mark.parametrize("kind", RIGHT)
def test_of_odd_values_most_are_refused_and_none_raises_anything_else(kind: Kind) -> None:
    assert sum(not is_taken(kind, odd) for odd in ODD) > len(ODD) / 2


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.DIED, "it was killed"),
        (Kind.DIED, {"how": 1, "last_output": "x"}),
        (Kind.DIED, {"how": "SIGKILL", "last_output": "", "command": None}),
        (Kind.MESHED, {"errors": {"2": 3}}),
        (Kind.MESHED, {"errors": ["x"]}),
        (Kind.FACTS, {"jobs": {"workers": []}}),
        (Kind.FACTS, {"jobs": {"slots": 1, "workers": [WORKER[:3]], "ended": DONE}}),
        (Kind.FACTS, {"jobs": {"slots": 1, "workers": [WORKER], "ended": {"jobs_done": "1"}}}),
        (Kind.FACTS, {"memory_bytes": "x"}),
        (Kind.POOL, {"slots": 4}),
        (Kind.WORKER, {"pid": "x", "command": 0}),
        (Kind.RUNNING, [[], 1.0]),
        (Kind.PRINTED, [1, 3, 0, b"x"]),
        (Kind.PRINTED, [1, 1, 0, "x"]),
        (Kind.PRINTED, [1, 1, None, b"x"]),
        (Kind.RUNNING, [1, "x"]),
        (Kind.ENDED, ENDED | {"outputs": [[b"x", 0]]}),
        (Kind.ENDED, ENDED | {"job": []}),
        (Kind.RECOVER, [[1, "x", None]]),
        (Kind.RECALL, [1, 1]),
    ],
)
def test_what_would_end_the_client_is_refused(kind: Kind, value: object) -> None:
    with pytest.raises(ProtocolError, match=rf"{kind.name} makes no sense: its value does not have the form"):
        check_answer(kind, value)


def test_a_failure_has_all_that_its_error_is_made_of() -> None:
    check_failure(FAILURE)
    for name in FAILURE:
        with pytest.raises(ProtocolError):
            check_failure({key: value for key, value in FAILURE.items() if key != name})
        with pytest.raises(ProtocolError):
            check_failure(FAILURE | {name: [1]})
    check_failure(FAILURE | {"fields": {"args": (1,)}})
    for fields in (None, [1], {1: 2}):
        with pytest.raises(ProtocolError):
            check_failure(FAILURE | {"fields": fields})

"""The form of messages from clients to servers: our messages pass, and others do not."""

import math
from typing import Any

import pytest

from pconnect.errors import ProtocolError
from pconnect.protocol.forms import MAX_SECONDS, check_form, ends_connection
from pconnect.protocol.kinds import ACCEPTS, Kind, Role
from pconnect.values.encoder import pack

SET_UP: dict[str, Any] = {
    "network": bytes(16),
    "nodes": pack([["host", [["127.0.0.1", 12501]]]]),
    "directory": "/tmp",
    "limits": [2**34, 2**31],
    "peer_timeout": 30.0,
    "timeout": 20.0,
    "links": {2: ["/path", b"token"]},
    "client_version": None,
    "together": [1, 2],
    "gone": {3: "it died"},
    "busy": [],
    "resumable": True,
}
FACTS: dict[str, Any] = {
    "name": "f(...)",
    "retries": 0,
    "isolate": False,
    "after": 7,
    "limit": None,
    "grace": 5.0,
    "worker": 2,
    "parts": ["f1", "a2"],
}
PROGRAM: dict[str, Any] = {"args": [b"ls", b"-l"], "cwd": b"/", "env": {b"A": b"x"}}
FOLDER = {"folder": True, "files": {"in/a": [0o755, b"x"]}, "outputs": ["*.o"], "nice": 19}
RIGHT: dict[Kind, list[Any]] = {
    Kind.COMMAND: [["1 + 1", 0, {}], ["", 3, {"seconds": 0.5, "value": True}], ["", 0, {"seconds": None}]],
    Kind.CALL: [["workspace.pull", 0, {"seconds": MAX_SECONDS}]],
    Kind.JOB: [
        [1, [2], {"x": 3}, None],
        [1, b"pickled", None, {"pickled": True, "seconds": 1.0}],
        [1, [], {}, {"seconds": math.inf, "memory": 10**30, "pickle": True}],
        [1, [], {}, {"program": PROGRAM}],
        [
            1,
            [],
            {},
            {"program": PROGRAM | {"stdin": True, "merged": True, "terminal": [24, 80], "seconds": 0.5}},
        ],
        [1, [], {}, {"program": PROGRAM | FOLDER}],
        [1, [], {}, {"program": PROGRAM | {"args": [b"ls -l"], "login": b"alice"}}],
        [1, [], {}, {"program": PROGRAM | {"folder": False, "nice": 0}}],
    ],
    Kind.SETUP: [SET_UP, {name: SET_UP[name] for name in list(SET_UP)[:7]}],
    Kind.ROUTE: [None, 3, "there is no way"],
    Kind.RELAY: [[[1, 2], {}, 20.0], [[1, 3], {3: [["gate", 1]]}, 5], [[1, 2], {1: [], 2: []}, 5.0]],
    Kind.RESTART: [[[1, 2], 30.0], [[], math.inf], [[3], 5]],
    Kind.MEMBERS: [
        {"nodes": {3: ["c", [["::1", 5]]]}, "links": {}, "removed": [], "change": "", "timeout": 30.0},
        {"nodes": {}, "links": {3: ["/s", b"t"]}, "removed": [1, 2], "change": "gone", "timeout": 5},
    ],
    Kind.PROBE: [None, [7, "a deadlock", [[1, "host", None, "precv", [2]], [2, "host", "x()", "idle", [1]]]]],
    Kind.RENEW: [b"certificate"],
    Kind.STATISTICS: [{"brief": True, "since": 1.5}, {}],
    Kind.STOP: [[1, 5.0]],
    Kind.STREAM: [[0, b"x"], [0, b""]],
    Kind.CREDIT: [[1, 7], [2, 0]],
    Kind.SIGNAL: [[15], [28, 24, 80]],
    Kind.RECALL: [None, 7],
    Kind.KEEP: [None, bytes(32), [FACTS, {"f1": b"function"}, b"job"]],
    Kind.LIMIT: [[1, []], [2**63 - 1, [5, 6]]],
    Kind.LEAVE: [[], [1, 2]],
    Kind.RECOVER: [[bytes(16), 1, bytes(24)]],
}
ODD: list[Any] = [
    True, -1, 0.5, math.nan, -math.inf, 2**63, 2**70, -(2**2000), 2**2000, "x", "é\ud800", b"", b"x" * 17, [], [[]],
    {}, {1: 2}, {"x": "y"}, [[1], [2]], (), {None},
]  # fmt: skip
SERVERS = (Role.SUPERVISOR, Role.WORKERS, Role.ENGINE_DATA, Role.WORKER)
#: Kinds whose value is used where any error becomes an answer, or is not used.
HARMLESS = {
    Kind.VALUE, Kind.COLLECTIVE, Kind.LEFT, Kind.FUNCTION, Kind.SHARED, Kind.WANT, Kind.INTERRUPT, Kind.KILL,
    Kind.QUERY, Kind.CLOSE, Kind.CANCEL, Kind.TAKEN, Kind.DROP, Kind.RETIRE, Kind.DETACH, Kind.TAKE,
    Kind.RECEIVED, Kind.NEIGHBOURS,
}  # fmt: skip


def has_form(kind: Kind, value: object) -> bool:
    try:
        check_form(kind, value)
    except ProtocolError:
        return False
    return True


def spoiled(value: Any) -> list[Any]:
    """Return variants of the value: one part, at any depth, in another form, missing, or added."""
    found = [odd for odd in ODD if type(odd) is not type(value)]
    if isinstance(value, dict):
        found += [{name: value[name] for name in value if name != left_out} for left_out in value]
        found += [value | {name: part} for name in value for part in spoiled(value[name])]
    elif isinstance(value, list):
        found += [value[:place] + value[place + 1 :] for place in range(len(value))]
        found += [
            [*value[:k], part, *value[k + 1 :]] for k in range(len(value)) for part in spoiled(value[k])
        ]
    return found


def test_every_kind_that_a_server_accepts_has_a_form_or_needs_no_form() -> None:
    taken = {kind for role in SERVERS for kind in ACCEPTS[role]} - {Kind.RESULT}
    assert taken == RIGHT.keys() | HARMLESS
    assert all(has_form(kind, odd) for kind in HARMLESS for odd in ODD)


@pytest.mark.parametrize("kind", RIGHT)
def test_what_clients_say_has_the_form(kind: Kind) -> None:
    for value in RIGHT[kind]:
        check_form(kind, value)


@pytest.mark.parametrize("kind", RIGHT)
def test_what_is_spoiled_raises_nothing_but_the_protocol_error(kind: Kind) -> None:
    """Some variants are valid: the server does not need an entry, or accepts any number."""
    for value in RIGHT[kind]:
        assert not all(has_form(kind, other) for other in spoiled(value))
    for odd in ODD:
        has_form(kind, odd)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.COMMAND, ["1", 0, {"seconds": 1e300}]),
        (Kind.COMMAND, ["1", 0, {"seconds": math.nan}]),
        (Kind.COMMAND, ["1", 0, {"seconds": "x"}]),
        (Kind.COMMAND, ["1", 0, None]),
        (Kind.CALL, ["x", "0", {}]),
        (Kind.JOB, [0, [], {}, "x"]),
        (Kind.JOB, [0, [], None, {}]),
        (Kind.JOB, [0, [], {}, {"program": PROGRAM | {"nice": 20}}]),
        (Kind.JOB, [0, [], {}, {"program": PROGRAM | {"merged": 1}}]),
        (Kind.JOB, [0, [], {}, {"program": PROGRAM | {"files": {}}}]),
        (Kind.JOB, [0, [], {}, {"program": PROGRAM | FOLDER | {"folder": False}}]),
        (Kind.JOB, [0, [], {}, {"program": PROGRAM | {"folder": True, "files": {"a": [0o1000, b""]}}}]),
        (Kind.SETUP, SET_UP | {"more": 1}),
        (Kind.SETUP, SET_UP | {"nodes": pack([["host", [["127.0.0.1", 2**16]]]])}),
        (Kind.SETUP, SET_UP | {"nodes": pack([["host", [["127.0.0.1", 0]]]])}),
        (Kind.SETUP, SET_UP | {"nodes": pack([["host", [["/run/a.logins", 1]]]])}),
        (Kind.SETUP, SET_UP | {"peer_timeout": 1e6}),
        (Kind.SETUP, SET_UP | {"limits": [0, 1]}),
        (Kind.RESTART, [[1], math.nan]),
        (Kind.MEMBERS, {"nodes": {}, "links": {}, "removed": ["1"], "change": "", "timeout": 1.0}),
        (Kind.MEMBERS, {"nodes": {1: ["c"]}, "links": {}, "removed": [], "change": "", "timeout": 1.0}),
        (Kind.RESTART, [[1], 2**2000]),
        (Kind.PROBE, [1, "x", [[1, 2]]]),
        (Kind.KEEP, [FACTS | {"after": "x"}, {}, b""]),
        (Kind.KEEP, [FACTS | {"more": [[]]}, {}, b""]),
        (Kind.KEEP, bytes(31)),
        (Kind.LIMIT, [0, [1]]),
        (Kind.LIMIT, [1, ["x"]]),
        (Kind.LIMIT, [1, [1], 1]),
        (Kind.LEAVE, [{}]),
        (Kind.RECOVER, [10**10, 1, b"secret"]),  # `bytes` of an int would allocate this many
        (Kind.RECOVER, [bytes(10**4), 1, b"secret"]),
        (Kind.STOP, [2**64, 1.0]),
    ],
)
def test_what_did_harm_once_or_might_is_refused(kind: Kind, value: object) -> None:
    with pytest.raises(ProtocolError, match=rf"{kind.name} makes no sense: its value does not have the form"):
        check_form(kind, value)


def test_what_has_a_number_is_answered_and_the_rest_ends_the_connection() -> None:
    assert {kind for kind in Kind if not ends_connection(kind)} == {Kind.COMMAND, Kind.CALL, Kind.JOB}

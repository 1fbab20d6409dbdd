"""Messages of a role, some of them changed: their kind is right for the receiver, their value mostly is not."""

import random
from typing import Any

from pconnect.protocol.frames import NO_LIMIT, Header
from pconnect.protocol.kinds import ACCEPTS, Kind, Role
from pconnect.protocol.messages import encode_message
from tests import fuzz_decoder
from tests.support.hostile import HOSTILE

_ODD: list[Any] = [
    None, True, 0, 1, 2, -1, 7, 2**31, 2**63, -(2**70), 0.5, float("inf"), float("nan"), "", "x", "1 + 1", "é\ud800",
    "\x1b]0;x\7", b"", b"x" * 100, b"\x80\x05N.", [], {}, (), [[]], {"x": 1}, {1: 2},
]  # fmt: skip
#: Values that are right, or nearly so. Commands only compute, and calls have unknown names.
_NEARLY: dict[Kind, list[Any]] = {
    Kind.COMMAND: [["1 + 1", 0, {}], ["x = [1]", 1, {"capture": True}], ["1 +", 0, {}]],
    Kind.CALL: [["no service", 0, {}], ["no.service", 0, {"arguments": [1]}]],
    Kind.DONE: [[0.5, 0, 0, 0], [{"type": "ValueError", "text": "x"}, 0, 0, 0], [1, 2**40, -1, 3]],
    Kind.OUTPUT: [[1, b"text\n", 0], [0, b"\x1b[2J", 2**40], [1, "text", 0]],
    Kind.FRONT_END: [["display", {"data": {"text/plain": "x"}, "metadata": {}}], ["log", {}], ["x", 1]],
    Kind.DIED: ["it was killed", {"how": "it was killed", "last_output": "x"}, {"how": 1, "last_output": "x"}],
    Kind.FACTS: [{"state": "running", "memory": 1}, {"pid": "x"}],
    Kind.MESHED: [{"pid": 1}, {"errors": {"1": "no"}}],
    Kind.LEFT: [[0, 1, "it failed"], [2**63, -1, ""]],
    Kind.COLLECTIVE: [[b"g" * 16, 0, "bcast", 1, "value"], [b"", -1, "", 9, None]],
    Kind.RESTART: [[[1], 5.0], [[], 0.0]],
    Kind.STATE: [None, [1, [], []], {"waits": [[1, 2]]}],
    Kind.POOL: [{"slots": 4}, {"slots": -1}, {"died": "x"}],
    Kind.WORKER: [[1, 0], "no worker"],
    Kind.RUNNING: [[1, 0.5]],
    Kind.STOP: [[1, 0.5], [2**63, -1.0]],
    Kind.KEEP: [[{"name": "x"}, [], [1, 2]], [{}, 0, None]],
    Kind.LIMIT: [[2, [1, 2]], [0, [-1]]],
    Kind.RECOVER: [[b"n" * 16, 1, b"s" * 16]],
    Kind.RECALL: [1, [1, True]],
    Kind.RESULT: [[0, 1, {}], {"value": 1}],
    Kind.RENEW: [b"-----BEGIN CERTIFICATE-----"],
}  # fmt: skip


def _value(chance: random.Random, kind: Kind) -> object:
    near = _NEARLY.get(kind)
    if near is None or chance.random() < 0.4:
        value = chance.choice(_ODD)
        return [chance.choice(_ODD) for _ in range(chance.randrange(6))] if chance.random() < 0.4 else value
    value = chance.choice(near)
    if isinstance(value, list) and value and chance.random() < 0.5:
        value = list(value)
        value[chance.randrange(len(value))] = chance.choice(_ODD)
    return value


def message(chance: random.Random, role: Role) -> bytes:
    """Return a message to a peer of this role."""
    kind = chance.choice(sorted(ACCEPTS[role]))
    tag = chance.choice([0, 1, 2, 3, 1000, 2**31, 2**32 - 1])
    if chance.random() < 0.15:
        head = chance.choice(HOSTILE)[1]
        return Header(kind, tag, len(head), 0).pack() + head
    data = b"".join(encode_message(kind, tag, _value(chance, kind), NO_LIMIT))
    return fuzz_decoder.mutated(chance, [data]) if chance.random() < 0.3 else data

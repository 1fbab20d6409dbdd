"""Messages of a session to the daemon, about its slots and its return, that our sessions never send.

No message names an existing folder, because the daemon removes the folders of a session after its end. So messages that
name one are never changed byte by byte, and these entries never change.
"""

import copy
import json
import random
from pathlib import Path
from typing import Any

from tests.fuzz.strangers import mutated

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 3, 7, 2**31, 2**63, -(2**64), 10**400, 0.5, 1e308, float("inf"), float("nan"),
    "", "x", "00" * 32, "00" * 16, "\0", "\ud800", "é" * 300, "%s%d{}", "\x1b]0;x\7\r\n", [], [1] * 4, [[]], {},
    {"a": {}},
]  # fmt: skip
_KEYS = ["slots", "bind", "hold", "return", "user", "node", "detached"]
_FOLDER = "folder"


def session_words(folder: Path) -> list[tuple[dict[str, Any], int]]:
    """Return the messages of sessions, each with its number of descriptors."""
    return [
        ({_FOLDER: str(folder / "none"), "mark": 0}, 0),
        ({"user": "alice", "network": "00" * 16, "key": "11" * 32, "node": 1}, 3),
        ({"failed": {"user": "alice", "reason": "no", "is_refused": True, "has_proved": False}}, 0),
        ({"used": [1, 2, 3, 4], "ended": "as it should"}, 0),
        ({"spawner": 1}, 1),
        ({"detached": True}, 0),
        ({"slots": 4, "exclusive": False}, 0),
        ({"bind": 1}, 1),
        ({"hold": 1}, 1),
        ({"return": 1}, 0),
    ]


def back_words(folder: Path, pid: int, node: int) -> dict[str, Any]:
    """Return the report of a node that returns."""
    return {
        "back": {
            "pid": pid, "user": "alice", "network": "00" * 16, "key": "11" * 32, "node": node, "peer": "this machine",
            "since": 1.0, _FOLDER: str(folder / "none"), "mark": 0, "detached": False,
        }
    }  # fmt: skip


def changed(chance: random.Random, words: dict[str, Any]) -> bytes:
    """Return a message in which entries are changed, missing or added."""
    words = copy.deepcopy(words)
    for _ in range(chance.randrange(4)):
        part = words
        inner = [value for value in words.values() if isinstance(value, dict) and value]
        if inner and chance.random() < 0.8:
            part = chance.choice(inner)
        key = chance.choice([*part, *_KEYS] if chance.random() < 0.3 else [*part] or _KEYS)
        if key == _FOLDER:
            continue
        if chance.random() < 0.2:
            part.pop(key, None)
        else:
            part[key] = (
                copy.deepcopy(chance.choice(ODD)) if chance.random() < 0.6 else chance.randrange(1, 12)
            )
    data = json.dumps(words).encode()
    if _FOLDER.encode() not in data and chance.random() < 0.2:
        data = mutated(chance, data)
    return data or b"{"  # an empty message would mean the end


def count_of(chance: random.Random, right: int) -> int:
    """Return the number of descriptors to send with a message, mostly the right one."""
    return right if chance.random() < 0.7 else chance.randrange(6)

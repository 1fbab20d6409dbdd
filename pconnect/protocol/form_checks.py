"""Checks of the form of a value that a peer has sent: all but the first tell, and do not raise. No I/O here."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from pconnect.errors import ProtocolError
from pconnect.protocol.kinds import Kind

Check = Callable[[Any], bool]

_MAX_INT = 2**63 - 1


def require_form(kind: Kind, value: object, check: Check | None) -> None:
    """Raise `ProtocolError` if the value of a message has not the form of its kind, if there is a check of it."""
    if check is not None and not check(value):
        raise ProtocolError(
            f"{kind.name} makes no sense: its value has another form than doc/protocol.md says"
        )


def is_number(value: Any, least: float = 0.0, most: float = math.inf) -> bool:
    """Whether it is an int or a float in these bounds, and no bool."""
    kind = type(value)  # this runs for each job: a test of identity costs a third of one of membership
    return (kind is float or (kind is int and value <= _MAX_INT)) and least <= value <= most


def is_int(value: Any, least: int = 0, most: int = _MAX_INT) -> bool:
    """Whether it is an int in these bounds, and no bool."""
    return type(value) is int and least <= value <= most


def is_text(value: Any) -> bool:
    """Whether it is a str."""
    return isinstance(value, str)


def list_of(value: Any, check: Check) -> bool:
    """Whether it is a list of items of one form."""
    return isinstance(value, list) and all(map(check, value))


def dict_of(value: Any, key: Check, check: Check) -> bool:
    """Whether it is a dict with keys and values of one form each."""
    return isinstance(value, dict) and all(map(key, value)) and all(map(check, value.values()))


def has(value: Any, needed: Mapping[str, Check], others: Mapping[str, Check] = {}) -> bool:
    """Whether it is a dict with all of some entries, perhaps with others, and with none besides."""
    if not isinstance(value, dict) or not needed.keys() <= value.keys():
        return False
    checks = {**needed, **others}
    return all(name in checks and checks[name](entry) for name, entry in value.items())

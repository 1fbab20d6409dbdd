"""Predicates for the form of received values, and `require_form`, which raises an error. Sans-I/O."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from pconnect.errors import ProtocolError
from pconnect.protocol.kinds import Kind

Check = Callable[[Any], bool]

_MAX_INT = 2**63 - 1


def require_form(kind: Kind, value: object, check: Check | None) -> None:
    """Raise `ProtocolError` if the value of a message fails the check for its kind, if there is one."""
    if check is not None and not check(value):
        raise ProtocolError(
            f"{kind.name} makes no sense: its value does not have the form that doc/protocol.md defines"
        )


def is_number(value: Any, least: float = 0.0, most: float = math.inf) -> bool:
    """Whether it is an int or a float, not a bool, within these bounds."""
    kind = type(value)  # this runs for each job: an identity test costs a third of a membership test
    return (kind is float or (kind is int and value <= _MAX_INT)) and least <= value <= most


def is_int(value: Any, least: int = 0, most: int = _MAX_INT) -> bool:
    """Whether it is an int, not a bool, within these bounds."""
    return type(value) is int and least <= value <= most


def is_text(value: Any) -> bool:
    """Whether it is a str."""
    return isinstance(value, str)


def list_of(value: Any, check: Check) -> bool:
    """Whether it is a list whose items all pass the check."""
    return isinstance(value, list) and all(map(check, value))


def dict_of(value: Any, key: Check, check: Check) -> bool:
    """Whether it is a dict whose keys and values all pass their checks."""
    return isinstance(value, dict) and all(map(key, value)) and all(map(check, value.values()))


def has(value: Any, needed: Mapping[str, Check], others: Mapping[str, Check] = {}) -> bool:
    """Whether it is a dict with all `needed` entries, optionally some of `others`, and no further entries."""
    if not isinstance(value, dict) or not needed.keys() <= value.keys():
        return False
    checks = {**needed, **others}
    return all(name in checks and checks[name](entry) for name, entry in value.items())

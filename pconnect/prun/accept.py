"""Conditions for nodes as text, such as ``memory>8G and cpus>=4``.

.. code-block:: text

    any        = all { "or" all }
    all        = one { "and" one }
    one        = "not" one | "(" any ")" | comparison
    comparison = name ( ">" | ">=" | "<" | "<=" | "==" | "!=" ) value

The text may come from a file, so it is parsed here and never evaluated as Python.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pconnect.errors import ConfigurationError
from pconnect.public_names import nearest

#: The properties of a node by name; ``None`` if unknown.
Facts = Mapping[str, float | str | None]

NUMBERS = ("memory", "cpus", "load", "slots", "node")
NAMES = (*NUMBERS, "host")

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>[<>=!]=|[<>=()])|(?P<text>"[^"]*"|'[^']*')|(?P<word>[A-Za-z_0-9.:\[\]*-]+))"""
)
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?:([KMGT])(?:i?B)?)?", re.IGNORECASE)
_MAX_DEPTH = 20


class Requirement(Protocol):
    """A condition or a part of one."""

    def holds(self, facts: Facts) -> bool | None:
        """Return whether a node meets the condition; ``None`` if a fact is missing."""

    def unmet(self, facts: Facts) -> list[str]:
        """Return the reasons why a node does not, or may not, meet the condition; empty if it does."""


@dataclass(frozen=True)
class _Comparison:
    name: str
    sign: str
    value: float | str
    text: str

    def holds(self, facts: Facts) -> bool | None:
        known = facts.get(self.name)
        if known is None:
            return None
        if self.name == "host":
            return is_called(str(known), str(self.value)) == (self.sign == "==")
        return _OPERATORS[self.sign](known, self.value)

    def unmet(self, facts: Facts) -> list[str]:
        if self.holds(facts):
            return []
        known = facts.get(self.name)
        has = "is unknown" if known is None else f"is {shown(self.name, known)}"
        return [f"{self.name} {has}, not {self.text}"]


@dataclass(frozen=True)
class _Not:
    part: Requirement
    text: str

    def holds(self, facts: Facts) -> bool | None:
        known = self.part.holds(facts)
        return None if known is None else not known

    def unmet(self, facts: Facts) -> list[str]:
        known = self.holds(facts)
        return [] if known else self.part.unmet(facts) if known is None else [f"{self.text} holds"]


@dataclass(frozen=True)
class _All:
    parts: tuple[Requirement, ...]

    def holds(self, facts: Facts) -> bool | None:
        known = {part.holds(facts) for part in self.parts}
        return False if False in known else None if None in known else True

    def unmet(self, facts: Facts) -> list[str]:
        return [reason for part in self.parts for reason in part.unmet(facts)]


@dataclass(frozen=True)
class _Any:
    parts: tuple[Requirement, ...]

    def holds(self, facts: Facts) -> bool | None:
        known = {part.holds(facts) for part in self.parts}
        return True if True in known else None if None in known else False

    def unmet(self, facts: Facts) -> list[str]:
        return [] if self.holds(facts) else [reason for part in self.parts for reason in part.unmet(facts)]


def parse(text: str) -> Requirement:
    """Parse a condition.

    Raises `ConfigurationError` with the column and the expected text if it is invalid.

    Examples
    --------
    >>> wanted = parse("memory>8G and not (host==alpha or cpus<4)")
    >>> wanted.holds({"memory": 9 * 2**30, "host": "beta", "cpus": 8})
    True
    >>> wanted.unmet({"memory": 2**32, "host": "beta", "cpus": 8})
    ['memory is 4.0G, not >8G']
    """
    return _Parser(text).whole()


def is_called(host: str, name: str) -> bool:
    """Return whether a name means the server `host`, with or without its port."""
    return host == name or host.rpartition(":")[0].strip("[]") == name


def shown(name: str, value: float | str) -> str:
    """Format a fact: memory in gigabytes, the load with one decimal digit."""
    if isinstance(value, str):
        return value
    if name == "memory":
        return f"{value / 2**30:.1f}G"
    return f"{value:.1f}" if name == "load" else f"{value:g}"


class _Parser:
    """A recursive-descent parser with one method for each line of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, int]] = []
        self._next = 0
        self._depth = 0
        position, end = 0, len(text.rstrip())
        while position < end:
            found = _TOKEN.match(text, position)
            if found is None:
                spaces = len(text[position:]) - len(text[position:].lstrip())
                raise self._error(f"{text[position + spaces]!r} is not allowed here", position + spaces)
            self._tokens.append((found[0].strip(), found.start(found.lastgroup or 0)))
            position = found.end()

    def whole(self) -> Requirement:
        found = self._any()
        if self._peek():
            raise self._error(f"expected `and`, `or` or the end, not {self._peek()!r}")
        return found

    def _any(self) -> Requirement:
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else _Any(tuple(parts))

    def _all(self) -> Requirement:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else _All(tuple(parts))

    def _one(self) -> Requirement:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(f"more than {_MAX_DEPTH} nested parentheses and `not`")
        begin = self._column()
        found: Requirement
        if self._take("not"):
            part = self._one()
            found = _Not(part, self._text[begin : self._column()].strip().removeprefix("not").strip())
        elif self._take("("):
            found = self._any()
            if not self._take(")"):
                raise self._error("`)` is missing")
        else:
            found = self._comparison()
        self._depth -= 1
        return found

    def _comparison(self) -> Requirement:
        name, begin = self._peek(), self._column()
        if name not in NAMES:
            what = f"{name!r} is not a property of nodes" if name else "a condition is missing"
            raise self._error(f"{what}{nearest(name, NAMES)}")
        self._next += 1
        sign = self._peek()
        signs = ("==", "!=") if name == "host" else tuple(_OPERATORS)
        if sign not in signs:
            hint = "; write ==" if sign == "=" else ""
            raise self._error(f"after {name}, expected one of {' '.join(signs)}{hint}")
        self._next += 1
        value = self._value(name)
        self._next += 1
        return _Comparison(name, sign, value, self._text[begin : self._end()].removeprefix(name).strip())

    def _value(self, name: str) -> float | str:
        word = self._peek()
        if not word or word in {*_OPERATORS, "(", ")"}:
            raise self._error(f"the value to compare {name} with is missing")
        if name == "host":
            return word.strip("\"'")
        found = _NUMBER.fullmatch(word.strip("\"'"))
        if found is None:
            raise self._error(f"{word!r} is not a number" + (", such as 8G" if name == "memory" else ""))
        number, unit = float(found[1]), found[2]
        if name == "memory" and number and not unit:
            raise self._error(f"{word!r} has no unit; write {word}G, or K, M or T")
        if unit and name != "memory":
            raise self._error(f"{word!r} has a unit, but {name} takes none; write {found[1]}")
        return number * _UNITS[unit.upper()] if unit else number

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _take(self, token: str) -> bool:
        is_there = self._peek() == token
        self._next += is_there
        return is_there

    def _column(self) -> int:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else len(self._text.rstrip())

    def _end(self) -> int:
        """Return the end of the last token taken."""
        token, begin = self._tokens[self._next - 1]
        return begin + len(token)

    def _error(self, what: str, position: int | None = None) -> ConfigurationError:
        column = 1 + (self._column() if position is None else position)
        return ConfigurationError(f"accept {self._text!r}, column {column}: {what}")

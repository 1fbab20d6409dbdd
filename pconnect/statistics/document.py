"""Reads the statistics of one server; doc/reference/statistics.md describes the document.

The tables, the terminal and the page read documents with these functions only. A document comes from a peer: a value of
an unexpected type counts as unknown.
"""

from collections.abc import Mapping
from typing import Any

from srp_tools.rules.numbers import is_finite

HEADINGS = (
    "name", "ping age (s)", "processed", "processing time (s)", "avg. process time (s)", "avg. transfer time (s)",
    "failed", "lost", "avg. queue time (s)", "load", "memory free (GB)", "disk free (GB)", "free slots", "sessions",
    "state",
)  # fmt: skip
_GIGA = 1e9


def row_of(name: str, ping_age: float | None, document: Mapping[str, Any] | None, state: str) -> list[object]:
    """Return the cells under `HEADINGS`; `ping_age`: the time since the server's last answer.

    `document`: ``None`` if the server has never answered. `state`: as text; if empty, taken from the document.
    """
    age = None if ping_age is None else round(max(0.0, ping_age), 3)
    if document is None:
        return [name, age, *[None] * (len(HEADINGS) - 3), state]
    machine, totals = part(document, "machine"), part(document, "totals")
    words = part(part(document, "server"), "admission").get("words")
    return [
        name,
        age,
        ended(totals),
        _rounded(number(totals, "processing_seconds"), 3),
        *(_rounded(average(totals, what), 6) for what in ("processing", "transfer")),
        count(totals, "failed"),
        count(totals, "lost"),
        _rounded(average(totals, "queue"), 6),
        load_of(machine),
        *(_giga(number(machine, f"{what}_free")) for what in ("memory", "disk")),
        free_slots(document),
        session_count(document),
        state or (words if isinstance(words, str) else ""),
    ]


def number(facts: Mapping[str, Any], name: str) -> float | None:
    """Return an entry that is a number; ``None`` if it is missing or not a number."""
    value = facts.get(name)
    return value if is_finite(value) else None


def ended(totals: Mapping[str, Any]) -> int | None:
    """Return the number of jobs and programs that have ended by themselves, done or failed."""
    done, failed = count(totals, "done"), count(totals, "failed")
    return None if done is None or failed is None else done + failed


def load_of(machine: Mapping[str, Any]) -> float | None:
    """Return the load average of the last minute."""
    match machine.get("load"):
        case [load, *_] if is_finite(load):
            return round(float(load), 2)
    return None


def free_slots(document: Mapping[str, Any]) -> int | None:
    """Return the number of free slots."""
    slots = document.get("slots")
    if not isinstance(slots, list):
        return None
    return len([slot for slot in slots if isinstance(slot, dict) and slot.get("state") == "free"])


def session_count(document: Mapping[str, Any]) -> int | None:
    """Return the number of sessions, including those of other users."""
    sessions, others = document.get("sessions"), number(part(document, "others"), "sessions")
    return len(sessions) + int(others or 0) if isinstance(sessions, list) else None


def part(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an entry that is a dict; an empty one if it is missing or not a dict."""
    found = facts.get(name)
    return found if isinstance(found, dict) else {}


def count(totals: Mapping[str, Any], how: str) -> int | None:
    """Return the number of jobs and programs that have ended in this way."""
    counts = [number(totals, f"{what}_{how}") for what in ("jobs", "programs")]
    known = [int(each) for each in counts if each is not None]
    return sum(known) if len(known) == len(counts) else None


def average(totals: Mapping[str, Any], what: str) -> float | None:
    """Return the average seconds per job or program that ended by itself; ``None`` if none has."""
    seconds, number_of = number(totals, f"{what}_seconds"), ended(totals)
    return seconds / number_of if seconds is not None and number_of else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _giga(size: float | None) -> float | None:
    return None if size is None else round(size / _GIGA, 1)

"""Validate the documents of statistics for the page: numbers, texts and lists of limited size, whatever the input.

Documents come from servers, perhaps on other machines, and are not trusted: a value of the wrong type becomes ``None``,
long texts are cut, and the rest of a long list is left out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pconnect.statistics.document import load_of, part
from srp_tools.rules.numbers import is_finite

Document = Mapping[str, Any]

MOST_TEXT = 120  # characters of a name or label
MOST_SLOTS = 4096
MOST_SESSIONS = 200
MOST_MEMBERS = 1000
MOST_WORK = 2000  # entries of a timeline
MOST_SAMPLES = 720
_MOST_COLUMNS = 40
_MOST_NODES = 64
_MOST_ADDRESSES = 16
_MOST_DEPTH = 8

TOTALS = (
    "jobs_done", "jobs_failed", "jobs_lost", "programs_done", "programs_failed", "programs_lost",
    "processing_seconds", "queue_seconds", "transfer_seconds", "bytes_in", "bytes_out", "sessions", "logins_failed",
)  # fmt: skip
SIZES = ("memory_total", "memory_free", "swap_total", "swap_free", "disk_total", "disk_free")
SLOT_STATES = ("free", "granted", "busy")
_OUTCOMES = {"done": 0, "failed": 1, "lost": 2, "running": 3}
UNKNOWN = 4  #: outcome of work whose end was never reported


class Report(NamedTuple):
    """The latest facts about one server."""

    key: str  #: identifies the server within its source
    document: Document | None  #: its statistics; ``None`` if it did not answer
    error: str = ""  #: why there is no document


def number(value: object) -> int | float | None:
    """Return a finite number unchanged, and ``None`` for anything else."""
    return value if is_finite(value) else None


def text(value: object, most: int = MOST_TEXT) -> str | None:
    """Return a text, cut to `most` characters, and ``None`` for anything else."""
    if not isinstance(value, str):
        return None
    return value if len(value) <= most else f"{value[: most - 1]}…"


def entries(document: Document, name: str, most: int) -> Iterator[Mapping[str, Any]]:
    """Yield the objects in a list of the document, at most `most` of them."""
    found = document.get(name)
    for each in found[:most] if isinstance(found, list) else ():
        if isinstance(each, dict):
            yield each


def row_of(report: Report) -> dict[str, object]:
    """Return the figures of a server for the page's table: a flat dict without lists."""
    document = report.document
    if document is None:
        return {"is_up": False, "error": text(report.error, 500)}
    server, machine, totals = part(document, "server"), part(document, "machine"), part(document, "totals")
    others = part(document, "others")
    states = slot_states(document)
    return {
        "is_up": True,
        "error": "",
        "name": text(server.get("name")),
        "host": text(server.get("host")),
        "version": text(server.get("version")),
        "account": text(server.get("account")),
        "admission": text(part(server, "admission").get("words")),
        "started": number(server.get("started")),
        "cmd_port": number(server.get("cmd_port")),
        "time": number(document.get("time")),
        "processors": number(machine.get("processors")),
        "load": load_of(machine),
        **{name: number(machine.get(name)) for name in SIZES},
        **{name: number(totals.get(name)) for name in TOTALS},
        **{f"slots_{state}": count for state, count in states.items()},
        "slots": sum(states.values()),
        "waiting": number(part(document, "queue").get("waiting")),
        "sessions_now": sum(1 for _ in entries(document, "sessions", MOST_SESSIONS)),
        "others_sessions": number(others.get("sessions")),
        "others_slots": number(others.get("slots")),
    }


def slot_states(document: Document) -> dict[str, int]:
    """Return the number of slots in each state."""
    counts = dict.fromkeys(SLOT_STATES, 0)
    for slot in entries(document, "slots", MOST_SLOTS):
        state = slot.get("state")
        if isinstance(state, str) and state in counts:
            counts[state] += 1
    return counts


def slot_numbers(document: Document) -> list[int]:
    """Return the numbers of the slots."""
    found = (slot.get("slot") for slot in entries(document, "slots", MOST_SLOTS))
    return [each for each in found if isinstance(each, int) and not isinstance(each, bool)]


def sessions_of(document: Document) -> list[dict[str, object]]:
    """Return the sessions in the document."""
    return [
        {
            "session": number(each.get("session")),
            "user": text(each.get("user")),
            "from": text(each.get("from")),
            "nodes": _numbers(each.get("nodes")),
            "network": text(each.get("network"), 16),
            "since": number(each.get("since")),
            "slots": number(each.get("slots")),
            "detached": each.get("detached") is True,
            "orphaned": number(each.get("orphaned")),
            "is_alone": each.get("exclusive") is True,
            "bytes_in": number(each.get("bytes_in")),
            "bytes_out": number(each.get("bytes_out")),
            "memory": number(each.get("memory")),
        }
        for each in entries(document, "sessions", MOST_SESSIONS)
    ]


def members_of(document: Document) -> list[dict[str, object]]:
    """Return the members in the document."""
    return [
        {
            "name": text(each.get("name")),
            "id": text(each.get("id"), 64),
            "addresses": _texts(each.get("addresses")),
            "slots": number(each.get("slots")),
            "is_gone": each.get("gone") is True,
            # Whole tens of seconds, so that the value rarely changes while the member keeps announcing itself.
            "heard": None if (ago := number(each.get("heard"))) is None else int(ago // 10) * 10,
        }
        for each in entries(document, "members", MOST_MEMBERS)
    ]


def _numbers(value: object) -> list[int | float]:
    found = map(number, value[:_MOST_NODES]) if isinstance(value, list) else ()
    return [each for each in found if each is not None]


def _texts(value: object) -> list[str]:
    found = map(text, value[:_MOST_ADDRESSES]) if isinstance(value, list) else ()
    return [each for each in found if each is not None]


Work = tuple[int, float, float | None, int, str | None, str | None, bool]


def work_after(document: Document, instant: float) -> list[Work]:
    """Return the work that is running or ended after a time.

    Each entry is (slot, begin, end, outcome, label, user, whether it is a program). The outcome is a number: 0 done, 1
    failed, 2 lost, 3 running, 4 `UNKNOWN`.
    """
    found: list[Work] = []
    for each in entries(document, "timeline", MOST_WORK):
        end = number(each.get("end"))
        if end is not None and end <= instant:
            continue
        slot, begin = each.get("slot"), number(each.get("begin"))
        outcome = _OUTCOMES.get(str(each.get("outcome")))
        if isinstance(slot, int) and begin is not None and outcome is not None:
            label, user = text(each.get("label")), text(each.get("user"))
            last = None if end is None else round(end, 3)
            found.append((slot, round(begin, 3), last, outcome, label, user, each.get("kind") == "program"))
    return found


def samples_after(document: Document, instant: float) -> Iterator[tuple[float, dict[str, float]]]:
    """Yield the samples after a time, each with its time and its values by column name."""
    samples = part(document, "samples")
    columns, rows = samples.get("columns"), samples.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list) or columns[:1] != ["time"]:
        return
    names = [text(each) or "" for each in columns[1:_MOST_COLUMNS]]
    for row in rows[-MOST_SAMPLES:]:
        at = number(row[0]) if isinstance(row, list) and row else None
        if at is not None and at > instant:
            values = zip(names, map(number, row[1:]), strict=False)
            yield at, {name: float(value) for name, value in values if value is not None}


def clean(value: object, depth: int = 0) -> Any:
    """Return a value reduced to safe JSON: no infinite numbers, no long texts, no deep nesting."""
    match value:
        case bool() | None:
            return value
        case int() | float():
            return number(value)
        case str():
            return text(value, 500)
        case list() if depth < _MOST_DEPTH:
            return [clean(each, depth + 1) for each in value[:MOST_SLOTS]]
        case dict() if depth < _MOST_DEPTH:
            return {str(name)[:MOST_TEXT]: clean(each, depth + 1) for name, each in value.items()}
    return None

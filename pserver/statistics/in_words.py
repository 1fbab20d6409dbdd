"""The statistics document as text, for people."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pconnect.commands.table import Table
from pserver.statistics.work import OUTCOMES

Facts = Mapping[str, Any]

_SLOTS = (
    "SLOT", "STATE", "USER", "SESSION", "JOBS", "PROGRAMS", "SECONDS", "AVG", "QUEUE", "MOVE", "IN", "OUT",
)  # fmt: skip
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def in_lines(document: Facts) -> list[str]:
    """Return the lines that show the statistics of one server: totals, slots and sessions."""
    server, totals, machine = document["server"], document["totals"], document["machine"]
    lines = [
        f"Server {server['name']} (pid {server['pid']}, version {server['version']}) at {server['host']}, "
        f"since {_instant(server['started'])}: {server['admission']['words']}",
        f"Load {machine['load'][0]:g} on {machine['processors']} processors; memory {free(machine, 'memory')}; "
        f"disk {free(machine, 'disk')}",
        f"Jobs: {_ends(totals, 'jobs')}. Programs: {_ends(totals, 'programs')}. "
        f"Processing time {totals['processing_seconds']:.3f} s, transfer time {totals['transfer_seconds']:.3f} s; "
        f"{size(totals['bytes_in'])} in, {size(totals['bytes_out'])} out",
        f"Sessions: {totals['sessions']} so far, {len(document['sessions'])} shown here"
        + (f", {count} of other users" if (count := document["others"]["sessions"]) else "")
        + f"; failed logins: {totals['logins_failed']}; slots awaited: {document['queue']['waiting']}",
        str(Table(_SLOTS, [_slot(slot) for slot in document["slots"]])),
    ]
    if document["sessions"]:
        headings = ["SESSION", "USER", "NETWORK", "FROM", "SINCE", "SLOTS", "IN", "OUT", "MEMORY"]
        lines.append(str(Table(headings, [_session(each) for each in document["sessions"]])))
    return lines


def _ends(totals: Facts, what: str) -> str:
    return ", ".join(f"{totals[f'{what}_{how}']} {how}" for how in OUTCOMES)


def _slot(slot: Facts) -> Sequence[object]:
    return [
        *(slot[name] for name in ("slot", "state", "user", "session")),
        *("/".join(str(slot[f"{what}_{how}"]) for how in OUTCOMES) for what in ("jobs", "programs")),
        round(slot["processing_seconds"], 3),
        *(_average(slot, what) for what in ("processing", "queue", "transfer")),
        *(size(slot[name]) for name in ("bytes_in", "bytes_out")),
    ]


def _average(counts: Facts, what: str) -> str:
    """Return the average time of jobs and programs that ended by themselves; empty if there are none."""
    ended = sum(counts[f"{each}_{how}"] for each in ("jobs", "programs") for how in ("done", "failed"))
    return f"{counts[f'{what}_seconds'] / ended:.3g} s" if ended else ""


def _session(session: Facts) -> Sequence[object]:
    return [
        session["session"],
        session["user"],
        session["network"],
        session["from"],
        _instant(session["since"]),
        session["slots"],
        *(size(session[name]) for name in ("bytes_in", "bytes_out", "memory")),
    ]


def size(count: int | None) -> str:
    """Return a number of bytes with three digits; empty if it is unknown.

    Examples
    --------
    >>> size(999), size(12_345_678), size(None)
    ('999 B', '12.3 MB', '')
    """
    if count is None:
        return ""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.3g} {_UNITS[unit]}"


def free(machine: Facts, what: str) -> str:
    """Return the free and the total amount of memory, swap or disk."""
    if machine[f"{what}_free"] is None:
        return "unknown"
    return f"{size(machine[f'{what}_free'])} free of {size(machine[f'{what}_total'])}"


def age(seconds: float) -> str:
    """Return a duration as ``1 day, 2:03:04``."""
    return str(timedelta(seconds=max(0, int(seconds))))


def _instant(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"

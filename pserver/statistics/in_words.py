"""The document of statistics in words, for people."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pconnect.commands.table import Table

Facts = Mapping[str, Any]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def in_lines(document: Facts) -> list[str]:
    """Return the lines that show the statistics of one server: sums, slots and sessions."""
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
        + (f", {count} of others" if (count := document["others"]["sessions"]) else "")
        + f"; failed logins: {totals['logins_failed']}; slots waited for: {document['queue']['waiting']}",
        str(
            Table(["SLOT", "STATE", "USER", "SESSION", "DONE", "FAILED", "LOST", "SECONDS"], _slots(document))
        ),
    ]
    if document["sessions"]:
        headings = ["SESSION", "USER", "FROM", "SINCE", "SLOTS", "IN", "OUT", "MEMORY"]
        lines.append(str(Table(headings, [_session(each) for each in document["sessions"]])))
    return lines


def _ends(totals: Facts, what: str) -> str:
    return ", ".join(f"{totals[f'{what}_{how}']} {how}" for how in ("done", "failed", "lost"))


def _slots(document: Facts) -> list[Sequence[object]]:
    return [
        [
            slot["slot"],
            slot["state"],
            slot["user"],
            slot["session"],
            slot["jobs_done"],
            slot["jobs_failed"],
            slot["jobs_lost"],
            round(slot["processing_seconds"], 3),
        ]
        for slot in document["slots"]
    ]


def _session(session: Facts) -> Sequence[object]:
    return [
        session["session"],
        session["user"],
        session["from"],
        _instant(session["since"]),
        session["slots"],
        *(size(session[name]) for name in ("bytes_in", "bytes_out", "memory")),
    ]


def size(count: int | None) -> str:
    """Return a number of bytes with three digits; empty if it is not known.

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
    """Return how much memory, swap or disk is free, and how much there is."""
    if machine[f"{what}_free"] is None:
        return "unknown"
    return f"{size(machine[f'{what}_free'])} free of {size(machine[f'{what}_total'])}"


def age(seconds: float) -> str:
    """Return a duration as ``1 day, 2:03:04``."""
    return str(timedelta(seconds=max(0, int(seconds))))


def _instant(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"

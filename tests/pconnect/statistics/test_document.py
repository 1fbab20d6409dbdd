import math
from typing import Any

import pytest

from pconnect.statistics.document import HEADINGS, ended, free_slots, row_of, session_count

TOTALS = {
    "jobs_done": 6, "jobs_failed": 1, "jobs_lost": 1, "programs_done": 2, "programs_failed": 1, "programs_lost": 2,
    "processing_seconds": 5.0, "queue_seconds": 1.0, "transfer_seconds": 0.5,
}  # fmt: skip
DOCUMENT = {
    "server": {"admission": {"words": "open until 06:00"}},
    "machine": {"load": [1.256, 1.0, 0.5], "memory_free": 2_500_000_000, "disk_free": None},
    "totals": TOTALS,
    "slots": [{"state": "free"}, {"state": "busy"}, {"state": "free"}],
    "sessions": [{}, {}],
    "others": {"sessions": 3},
}


def test_a_row_has_the_figures_of_a_server() -> None:
    row = dict(zip(HEADINGS, row_of("host:1", 0.12345, DOCUMENT, ""), strict=True))
    assert row == {
        "name": "host:1", "ping age (s)": 0.123, "processed": 10, "processing time (s)": 5.0,
        "avg. process time (s)": 0.5, "avg. transfer time (s)": 0.05, "failed": 2, "lost": 3,
        "avg. queue time (s)": 0.1,
        "load": 1.26, "memory free (GB)": 2.5, "disk free (GB)": None, "free slots": 2, "sessions": 5,
        "state": "open until 06:00",
    }  # fmt: skip
    assert HEADINGS[:6] == (
        "name", "ping age (s)", "processed", "processing time (s)", "avg. process time (s)", "avg. transfer time (s)",
    )  # fmt: skip


def test_a_server_that_has_never_answered_has_a_row() -> None:
    row = row_of("host:1", None, None, "does not answer")
    assert len(row) == len(HEADINGS) and (row[0], row[-1]) == ("host:1", "does not answer")
    assert set(row[1:-1]) == {None}


def test_averages_of_nothing_are_unknown() -> None:
    row = row_of("h", 0.0, {"totals": dict.fromkeys(TOTALS, 0)}, "")
    assert row[2:8] == [0, 0, None, None, 0, 0]


@pytest.mark.parametrize(
    "odd", [None, True, "x", [], {}, math.nan, -1, [None], {"x": 1}, [[]], 10**400, [10**400]]
)
def test_malformed_values_of_a_peer_are_unknown(odd: Any) -> None:
    for name in DOCUMENT:
        assert len(row_of("h", 0.0, DOCUMENT | {name: odd}, "")) == len(HEADINGS)
    for name in TOTALS:
        row_of("h", 0.0, DOCUMENT | {"totals": TOTALS | {name: odd}}, "")
    for name in ("load", "memory_free", "disk_free"):
        row_of("h", 0.0, DOCUMENT | {"machine": {name: odd}}, "")
    free_slots({"slots": odd})
    session_count({"sessions": odd, "others": odd})
    assert ended({}) is None

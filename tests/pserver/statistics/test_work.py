import math
from typing import Any

import pytest

from pserver.statistics.work import MAX_LABEL, Running, Span, Told, Work, read_told

ROW = [7, 1, 2, 3, 4, 5, 6, 0.5, 0.25, 0.125, 8, 9]


def test_what_a_session_tells_is_read() -> None:
    told = read_told(
        {
            "work": [ROW],
            "running": [[7, 1000.5, False, "f"]],
            "is_more": True,
            "spans": [[7, 1000.0, 1001.0, True, "failed", "make"]],
        }
    )
    assert told.work == [(7, Work(1, 2, 3, 4, 5, 6, 0.5, 0.25, 0.125, 8, 9))]
    assert told.running == [(7, Running(1000.5, False, "f"))] and told.is_more
    assert told.spans == [(7, Span(1000.0, 1001.0, True, "failed", "make"))]


@pytest.mark.parametrize(
    "words",
    [
        {"work": 1},
        {"work": [1, None, [], [7]]},
        {"work": [[7, *ROW[1:9], math.nan, 8, 9]]},
        {"work": [[*ROW[:10], 8.0, 9]]},
        {"work": [[*ROW[:10], 8, 2**60]]},
        {"work": [[7, -1, *ROW[2:]]]},
        {"work": [[7, True, *ROW[2:]]]},
        {"work": [[7, 2**60, *ROW[2:]]]},
        {"work": [["7", *ROW[1:]]]},
        {"work": [[*ROW, 1]]},
        {"spans": [[7, 2.0, 1.0, True, "done", "it ends before it begins"]]},
        {"spans": [[7, 1.0, 2.0, True, "stolen", "f"]]},
        {"spans": [[7, 1.0, 2.0, 1, "done", "f"]]},
        {"spans": [[7, 1.0, 2.0, True, "done", 3]]},
        {"spans": [[7, 1.0, math.inf, True, "done", "f"], {}]},
    ],
)
def test_what_makes_no_sense_is_left_out(words: dict[str, Any]) -> None:
    assert read_told(words) == Told([], None, False, [])


def test_what_runs_is_told_as_a_whole() -> None:
    assert read_told({"running": []}).running == []
    assert read_told({"running": [[7, -1.0, False, "f"], [7, 1.0, False], [7, 1.0, 0, "f"]]}).running == []


def test_names_are_short() -> None:
    told = read_told({"running": [[7, 1.0, False, "f" * 1000]]})
    assert told.running is not None and told.running[0][1].label == "f" * MAX_LABEL


def test_differences_are_never_negative() -> None:
    assert Work(jobs_done=5).since(Work(jobs_done=3, jobs_failed=2)) == Work(jobs_done=2)

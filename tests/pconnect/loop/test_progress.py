import pytest

from pconnect.loop.progress import Pace, ProgressBar


@pytest.mark.parametrize(
    ("unit", "total", "done", "text"),
    [
        (" nodes", 3, 2, "2 of 3 nodes done, 13 s so far"),
        (" jobs", 40, 4, "4 of 40 jobs done"),  # as many as at the start, so the pace is unknown
        (" jobs", 40, 8, "8 of 40 jobs done, about 80 s left"),
        (" jobs", 40, 40, "40 of 40 jobs done"),
        ("B", 480_000_000, 120_000_000, "what: 120 of 480 MB, about 30 s left"),
        ("B", 2_500_000_000, 1_300_000_000, "what: 1.3 of 2.5 GB, about 9 s left"),
        ("B", 12, 6, "what: 6 of 12 bytes, about 30 s left"),
    ],
)
def test_words(unit: str, total: int, done: int, text: str) -> None:
    now, begun = [0.0], [4]
    pace = Pace(ProgressBar("what", total, unit, lambda: begun[0]), 3.0, lambda: now[0])
    now[0] = 10.0
    assert pace.describe(done) == text

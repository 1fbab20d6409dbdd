import time

from pserver.statistics import samples
from pserver.statistics.samples import COLUMNS, INTERVAL, Samples


def test_a_sample_is_taken_when_it_is_time() -> None:
    looks: list[int] = []

    def look() -> list[float | None]:
        looks.append(1)
        return [1.5, None] + [0.0] * (len(COLUMNS) - 2)

    ring = Samples(look)
    assert ring.time_left() == 0.0
    before = time.time() - 0.001
    ring.step()
    ring.step()
    assert len(looks) == 1 and 0 < ring.time_left() <= INTERVAL
    facts = ring.facts()
    assert facts["interval"] == INTERVAL and len(facts["columns"]) == len(facts["rows"][0])
    assert facts["rows"][0][1:3] == [1.5, None] and before <= facts["rows"][0][0]
    assert ring.facts(since=time.time() + 1)["rows"] == []


def test_an_hour_is_kept() -> None:
    ring = Samples(list)
    for _ in range(1000):
        ring._due = 0.0
        ring.step()
    assert len(ring.facts()["rows"]) * samples.INTERVAL == 3600

"""The last hour, summed over all servers."""

from typing import Any

from pserver.page.history import KEPT, STEP, History
from tests.support.small_documents import document


def samples(begin: float, *values: float, interval: float = 10.0) -> dict[str, Any]:
    rows = [[begin + interval * place, value, 2 * place] for place, value in enumerate(values)]
    return document(samples={"interval": interval, "columns": ["time", "load", "jobs_done"], "rows": rows})


def test_means_of_servers_are_added() -> None:
    history = History()
    history.take("alpha", samples(0.0 + STEP, 1, 2, 3, 9))
    history.take("beta", samples(0.0 + STEP, 4, 4, 4))
    first, second = history.all()
    assert (first["at"], first["load"]) == (30.0, 6.0) and (second["at"], second["load"]) == (60.0, 9.0)


def test_counts_are_shown_by_how_much_they_grow_in_a_second() -> None:
    history = History()
    history.take("alpha", samples(STEP, 0, 0, 0, 0))
    history.take("beta", samples(STEP, 0, 0, 0, 0))
    assert [step["jobs_done"] for step in history.all()] == [0.4, 0.4]


def test_a_server_that_has_started_again_has_no_negative_counts() -> None:
    history = History()
    history.take("alpha", samples(STEP, 0, 0))
    history.take("alpha", samples(2 * STEP, 0))
    assert [step["jobs_done"] for step in history.all()] == [0.2, 0.0]


def test_changes_are_the_steps_that_have_changed() -> None:
    history = History()
    history.take("alpha", samples(STEP, 1, 1, 1))
    assert [step["at"] for step in history.changes()] == [STEP]
    assert history.changes() == []
    history.take("alpha", samples(STEP, 1, 1, 1, 5))
    assert history.changes() == [{"at": 2 * STEP, "load": 5.0, "jobs_done": 0.2}]


def test_an_hour_is_kept() -> None:
    history = History()
    for begin in range(10):
        history.take("alpha", samples(STEP + begin * 1000.0, *[1.0] * 100))
    steps = history.all()
    assert len(steps) == KEPT and steps[-1]["at"] == 10020.0


def test_a_server_that_has_gone_is_left_out() -> None:
    history = History()
    history.take("alpha", samples(STEP, 1))
    history.take("beta", samples(STEP, 2))
    history.forget("alpha")
    assert history.all() == [{"at": STEP, "load": 2.0}]
    assert history.taken_until("beta") == STEP


def test_samples_in_disorder_do_no_harm() -> None:
    history = History()
    shown = samples(STEP, 1, 1, 1)
    shown["samples"]["rows"] += [[STEP, 5, 5], [2 * STEP, 1, 9], [2 * STEP, 1, 9]]
    history.take("alpha", shown)
    assert [step["load"] for step in history.all()] == [1.0, 1.0]

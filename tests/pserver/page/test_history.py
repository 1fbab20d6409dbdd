"""The last hour of all servers, added up."""

from typing import Any

from pserver.page.history import KEPT, STEP, History
from tests.support.small_documents import document


def samples(begin: float, *values: float, interval: float = 10.0) -> dict[str, Any]:
    rows = [[value] for value in values]
    return document(samples={"interval": interval, "begin": begin, "columns": ["load"], "rows": rows})


def test_means_of_servers_are_added() -> None:
    history = History()
    history.take("alpha", samples(0.0 + STEP, 1, 2, 3, 9))
    history.take("beta", samples(0.0 + STEP, 4, 4, 4))
    assert history.all() == [{"at": 30.0, "load": 6.0}, {"at": 60.0, "load": 9.0}]


def test_changes_are_the_steps_that_have_changed() -> None:
    history = History()
    history.take("alpha", samples(STEP, 1, 1, 1))
    assert [step["at"] for step in history.changes()] == [STEP]
    assert history.changes() == []
    history.take("alpha", samples(STEP, 1, 1, 1, 5))
    assert history.changes() == [{"at": 2 * STEP, "load": 5.0}]


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

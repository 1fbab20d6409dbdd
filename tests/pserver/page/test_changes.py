"""Messages to the page: a snapshot, then changes."""

from pserver.page import changes as module
from pserver.page.changes import Changes
from pserver.page.documents import Report
from tests.support.small_documents import document, work


def test_the_first_time_all_is_new_and_then_only_what_has_changed() -> None:
    changes = Changes()
    first = changes.take([Report("alpha", document())])["servers"]["alpha"]
    assert first["row"]["jobs_done"] == 7 and len(first["work"]) == 2 and len(first["sessions"]) == 1
    assert changes.take([Report("alpha", document())])["servers"] == {}
    totals = {**document()["totals"], "jobs_done": 8}
    told = changes.take([Report("alpha", document(totals=totals))])["servers"]
    assert told == {"alpha": {"row": {"jobs_done": 8}}}


def test_what_ran_has_its_end_when_it_is_known() -> None:
    changes = Changes()
    changes.take([Report("alpha", document(timeline=[work(1, 999.0, None)]))])
    ended = document(1002.0, timeline=[work(1, 999.0, 1001.0, outcome="failed")])
    (told,) = changes.take([Report("alpha", ended)])["servers"]["alpha"]["work"]
    assert told[:4] == (1, 999.0, 1001.0, 1)
    assert changes.snapshot()["servers"]["alpha"]["work"] == [told]


def test_an_end_that_is_told_late_is_seen() -> None:
    changes = Changes()
    changes.take([Report("alpha", document(timeline=[]))])
    late = document(1001.0, timeline=[work(2, 996.0, 997.0)])
    (told,) = changes.take([Report("alpha", late)])["servers"]["alpha"]["work"]
    assert told[:3] == (2, 996.0, 997.0)


def test_what_vanishes_while_it_runs_has_ended_nobody_knows_how() -> None:
    changes = Changes()
    changes.take([Report("alpha", document(timeline=[work(1, 999.0, None)]))])
    (told,) = changes.take([Report("alpha", document(1003.0, timeline=[]))])["servers"]["alpha"]["work"]
    assert told[:4] == (1, 999.0, 1003.0, 4)


def test_a_server_that_does_not_answer_keeps_its_last_figures() -> None:
    changes = Changes()
    changes.take([Report("alpha", document())])
    told = changes.take([Report("alpha", None, "it is gone")])["servers"]["alpha"]
    assert told == {"row": {"is_up": False, "error": "it is gone"}}
    assert changes.snapshot()["servers"]["alpha"]["row"]["jobs_done"] == 7


def test_a_server_that_is_asked_for_no_more_goes() -> None:
    changes = Changes()
    changes.take([Report("alpha", document()), Report("beta", document())])
    told = changes.take([Report("beta", document())])
    assert told["gone"] == ["alpha"] and list(changes.snapshot()["servers"]) == ["beta"]


def test_what_is_kept_is_bounded() -> None:
    changes = Changes()
    most = module.MOST_KEPT // 100
    for turn in range(2):
        timeline = [work(1, 10_000.0 * turn + at, 10_000.0 * turn + at + 0.5) for at in range(2 * most)]
        changes.take(
            [
                Report(f"host{number}", document(10_000.0 * (turn + 1), timeline=timeline))
                for number in range(100)
            ]
        )
    kept = changes.snapshot()["servers"]["host0"]["work"]
    assert len(kept) == most and kept[-1][1] == 10_000.0 + 2 * most - 1


def test_nothing_is_asked_for_twice() -> None:
    changes = Changes()
    assert changes.since == {}
    changes.take([Report("alpha", document())])
    assert changes.since == {"alpha": 905.0}  # the last sample; for work, shortly before the document's time

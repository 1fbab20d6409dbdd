"""Validation of documents, valid and invalid ones."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from pserver.page.changes import Changes
from pserver.page.documents import (
    MOST_SESSIONS,
    MOST_TEXT,
    Report,
    clean,
    members_of,
    number,
    row_of,
    samples_after,
    sessions_of,
    slot_numbers,
    text,
    work_after,
)
from pserver.page.metrics import exposition
from tests.support.small_documents import document, work

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_the_row_has_the_figures_of_the_document() -> None:
    row = row_of(Report("alpha", document()))
    assert row["name"] == "alpha" and row["is_up"] is True and row["load"] == 0.5 and row["jobs_done"] == 7
    assert (row["slots"], row["slots_busy"], row["slots_free"], row["waiting"]) == (2, 1, 1, 3)
    assert (row["sessions_now"], row["others_sessions"]) == (1, 2)


def test_a_server_without_a_document_is_down() -> None:
    assert row_of(Report("alpha", None, "it does not answer")) == {
        "is_up": False,
        "error": "it does not answer",
    }


def test_numbers_and_texts_are_what_they_should_be() -> None:
    assert [number(each) for each in (1, 2.5, True, math.nan, math.inf, "1", 2**70, None, 10**400)] == [
        1, 2.5, None, None, None, None, None, None, None,
    ]  # fmt: skip
    assert text("a") == "a" and text(1) is None
    cut = text("x" * 1000)
    assert cut is not None and len(cut) == MOST_TEXT and cut.endswith("…")


def test_lists_are_bounded() -> None:
    many = document(sessions=[{"session": number} for number in range(10 * MOST_SESSIONS)])
    assert len(sessions_of(many)) == MOST_SESSIONS


def test_work_that_ended_before_is_left_out() -> None:
    shown = document(
        timeline=[work(1, 5.0, None), work(1, 1.0, 2.0, outcome="failed"), work(2, 3.0, 4.0, kind="program")]
    )
    assert [each[:4] for each in work_after(shown, 0.0)] == [
        (1, 5.0, None, 3),
        (1, 1.0, 2.0, 1),
        (2, 3.0, 4.0, 0),
    ]
    assert [each[1] for each in work_after(shown, 2.0)] == [5.0, 3.0]
    assert work_after(shown, 2.0)[1][6] is True


def test_samples_have_their_instants() -> None:
    assert list(samples_after(document(), 0.0)) == [
        (900.0, {"load": 0.5, "busy_slots": 1.0}),
        (905.0, {"load": 0.7, "busy_slots": 2.0}),
    ]
    assert [at for at, _ in samples_after(document(), 900.0)] == [905.0]


def test_lists_of_a_document() -> None:
    assert slot_numbers(document()) == [1, 2]
    (member,) = members_of(document())
    assert member["name"] == "beta" and member["addresses"] == ["10.0.0.2"] and member["heard"] == 0


@given(st.dictionaries(st.sampled_from(sorted(document())), ANYTHING))
def test_what_makes_no_sense_is_no_error(parts: dict[str, object]) -> None:
    """Whatever a server sends, the page has something to show, and JSON that browsers can read."""
    changes = Changes()
    report = Report("alpha", {**document(), **parts})
    for told in (changes.take([report]), changes.snapshot(), changes.take([report]), clean(report.document)):
        json.dumps(told, allow_nan=False)
    exposition([report])

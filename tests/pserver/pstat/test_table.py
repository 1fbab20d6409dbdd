import pytest

from pserver.ctl.sources import Answer
from pserver.pstat.table import LEGEND, Cell, duration, joined, lines_of, summary
from tests.pserver.statistics.test_in_words import document

GOOD = Answer("alpha:12502", document(), "", 99.0)
SILENT = Answer("beta", None, "does not answer", None)


def text_of(answers: list[Answer], width: int) -> list[str]:
    return [joined(line) for line in lines_of(answers, width, now=100.0)]


def test_a_wide_terminal_has_all_columns() -> None:
    head, first, second = text_of([GOOD, SILENT], 160)
    assert head.split("  ")[0] == "NAME" and [head.count(name) for name in ("PING AGE", "QUEUE", "WAIT")] == [
        1,
        1,
        1,
    ]
    assert first.split() == [
        "alpha:12502", "1", "s", "16", "500", "ms", "31.2", "ms", "15.6", "ms", "0", "s", "7", "5", "1.5", "1.5", "GB",
        "0/1", "4", "2", "open", "until", "06:00",
    ]  # fmt: skip
    assert second.split() == ["beta", "does", "not", "answer"]
    assert all(name in LEGEND for name in ("PING AGE", "MOVE", "DISK FREE"))


@pytest.mark.parametrize("width", [30, 60, 80, 100, 140, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    answers = [
        GOOD,
        SILENT._replace(name="x" * 90, error="a long reason " * 30),
        GOOD._replace(name="ü" * 20),
    ]
    lines = text_of(answers, width)
    assert all(len(line) <= width for line in lines), lines
    assert all(("STATE" in line) == (number == 0) for number, line in enumerate(lines))
    if width >= 80:
        assert all(name in lines[0] for name in ("DONE", "AVG", "FAIL", "SLOTS"))
    assert "…" in lines[2]


def test_what_is_wrong_is_marked() -> None:
    _, good, bad = lines_of([GOOD, SILENT], 160, now=100.0)
    assert {cell.text.strip() for cell in good if cell.mark == "bad"} == {"7", "5"}
    assert bad[-1] == Cell("does not answer", "bad")
    assert joined(good, lambda cell: f"<{cell.mark}>").startswith("<>  <>")


def test_control_characters_of_servers_are_not_shown() -> None:
    evil = GOOD._replace(name="a\x1b[2Jb", document=document(server={"admission": {"words": "\x1b]0;x\x07"}}))
    assert "\x1b" not in "".join(text_of([evil], 160)) and "\x07" not in "".join(text_of([evil], 160))


def test_a_document_in_another_form_is_a_row_without_figures() -> None:
    for odd in ({}, {"slots": 3, "totals": [], "machine": None, "sessions": "x", "server": {"admission": 1}}):
        assert text_of([GOOD._replace(document=odd)], 100)[1].split()[0] == "alpha:12502"
        summary([GOOD._replace(document=odd)])


def test_all_together_are_one_line() -> None:
    assert summary([GOOD, SILENT]) == "2 servers, 1 of them without an answer, 1 of 1 slot busy, 2 sessions"
    assert summary([]) == "0 servers, 0 of 0 slots busy, 0 sessions"


def test_durations_of_any_length_are_short() -> None:
    for exponent in range(-12, 12):
        assert len(duration(10.0**exponent)) <= 11
    assert duration(3599.6) == "1:00:00"

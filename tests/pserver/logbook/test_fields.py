import logging

import pytest

from pserver.logbook.fields import shortened, write


def test_fields_follow_the_words_and_are_values_for_programs(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("pserver.test")
    caplog.set_level(logging.INFO)
    write(
        log,
        logging.INFO,
        ("job %d", 5),
        {"user": 'a" b=1', "node": 2, "seconds": 1.25, "network": "0f"},
        {"job": 5},
    )
    write(log, logging.DEBUG, ("not this",), {}, {})
    (record,) = caplog.records
    assert record.getMessage() == r'job 5 user="a\" b=1" node=2 seconds=1.250 network=0f'
    assert record.msg == "job %d user=%s node=%s seconds=%s network=%s"
    assert vars(record)["fields"] == {"job": 5, "user": 'a" b=1', "node": 2, "seconds": 1.25, "network": "0f"}


def test_names_are_shorter_than_reasons(caplog: pytest.LogCaptureFixture) -> None:
    long = "x" * 1000
    write(logging.getLogger("pserver.test"), logging.WARNING, ("no",), {"user": long, "reason": long}, {})
    assert caplog.messages == [f'no user="{"x" * 100}\\u2026" reason="{"x" * 400}\\u2026"']


def test_a_short_text_stays() -> None:
    assert (shortened("abc", 3), shortened("abcd", 3)) == ("abc", "abc…")

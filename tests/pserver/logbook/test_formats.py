import json
import logging
import os
import sys
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pserver.logbook.formats import is_journal, make_formatter


def record(message: str, level: int = logging.INFO, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("pserver", level, __file__, 1, "%s", (message,), None)
    vars(made).update(more)
    return made


def failed() -> logging.LogRecord:
    try:
        raise ValueError("bad\n<0>forged")
    except ValueError:
        return record("failed", logging.ERROR, exc_info=sys.exc_info())


@given(message=st.text(), user=st.text())
def test_json_is_one_object_on_one_line_whatever_peers_send(message: str, user: str) -> None:
    line = make_formatter("json").format(record(message, fields={"user": user, "port": 5}))
    assert line.isascii() and line.isprintable()
    line.encode()
    entry = json.loads(line)
    assert list(entry) == ["time", "level", "message", "user", "port"]
    assert (entry["level"], entry["port"]) == ("info", 5)
    if not any("\ud800" <= c <= "\udfff" for c in message):
        assert entry["message"] == message
    json.dumps(entry, ensure_ascii=False).encode()


def test_the_time_of_json_has_its_zone() -> None:
    made = record("x")
    entry = json.loads(make_formatter("json").format(made))
    time = datetime.fromisoformat(entry["time"])
    assert time.tzinfo is not None
    assert abs(time.timestamp() - made.created) < 0.002


def test_json_has_the_traceback_and_a_longest_length() -> None:
    entry = json.loads(make_formatter("json").format(failed()))
    assert entry["traceback"].endswith("ValueError: bad\n<0>forged")
    assert len(json.loads(make_formatter("json").format(record("x" * 100_000)))["message"]) < 9000


def test_as_text_a_traceback_is_indented() -> None:
    first, *others = make_formatter("text").format(failed()).split("\n")
    assert first.endswith(" ERROR failed") and first.startswith("20")
    assert others and all(line.startswith("  ") for line in others)


def test_each_line_for_the_journal_has_the_priority_and_no_time() -> None:
    lines = make_formatter("text", journal=True).format(failed()).split("\n")
    assert lines[0] == "<3>ERROR failed"
    assert all(line.startswith("<3>  ") for line in lines[1:])
    assert json.loads(make_formatter("json", journal=True).format(record("x"))[3:])["message"] == "x"


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)]
)
def test_priorities_are_those_of_syslog(level: str, priority: int) -> None:
    number = logging.getLevelNamesMapping()[level.upper()]
    assert (
        make_formatter("text", journal=True).format(record("x", number)) == f"<{priority}>{level.upper()} x"
    )


def test_the_journal_is_known_by_its_device_and_number(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("wb") as stream, (tmp_path / "other").open("wb") as other:
        facts = os.fstat(stream.fileno())
        environment = {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}
        assert is_journal(stream.fileno(), environment)
        assert not is_journal(other.fileno(), environment)
        assert not is_journal(stream.fileno(), {})
    assert not is_journal(10_000, environment)

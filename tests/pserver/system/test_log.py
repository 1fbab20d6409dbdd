import errno
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.system import log as log_module
from pserver.system.log import AUDIT, LogHandler
from pserver.system.log_file import Rotation


class Output:
    """A destination for lines that may be full."""

    def __init__(self) -> None:
        self.written = b""
        self.is_full = self.is_closed = False

    def write(self, data: bytes) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    @property
    def lines(self) -> list[str]:
        """The lines without their dates."""
        return [re.sub(r"^\d\S+ \S+ ", "", line) for line in self.written.decode().splitlines()]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(output: Output, clock: Clock) -> Iterator[logging.Logger]:
    logger = logging.Logger("pserver")
    logger.addHandler(LogHandler(output, clock))
    yield logger
    for handler in logger.handlers:
        handler.close()


def test_a_record_is_one_line_with_date_and_level(log: logging.Logger, output: Output) -> None:
    log.warning("port %d", 5)
    assert re.fullmatch(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING port 5\n", output.written)


def test_what_peers_sent_cannot_pose_as_another_record(log: logging.Logger, output: Output) -> None:
    log.info("user %s", "x\n2026-01-01 00:00:00,000 INFO forged\r\x1b[2J\x85\u2028\udc80\u202e")
    assert output.lines == [
        r"INFO user x\n2026-01-01 00:00:00,000 INFO forged\r\x1b[2J\x85\u2028\udc80\u202e"
    ]


def test_a_traceback_is_indented_whatever_its_message_is(log: logging.Logger, output: Output) -> None:
    try:
        raise ValueError("bad\n2026-01-01 00:00:00,000 INFO forged\x1b[2J")
    except ValueError:
        log.exception("failed")
    first, *others = output.written.decode().split("\n")[:-1]
    assert first.endswith("ERROR failed")
    assert others[-2:] == ["  ValueError: bad", r"  2026-01-01 00:00:00,000 INFO forged\x1b[2J"]
    assert all(line.startswith("  ") for line in others)


def test_a_flood_of_one_kind_is_counted_and_hides_no_other(
    log: logging.Logger, output: Output, clock: Clock
) -> None:
    for number in range(5000):
        log.info("stray connection %d", number)
    log.info("another")
    assert len(output.lines) == 101
    clock.now += 12
    log.info("a third")
    assert output.lines[-2:] == [
        "INFO 4900 more like this in the last 12 s: stray connection %d",
        "INFO a third",
    ]


def test_what_was_left_out_is_counted_at_the_end(log: logging.Logger, output: Output) -> None:
    for _ in range(103):
        log.error("again")
    log.handlers[0].close()
    assert output.lines[-1] == "ERROR 3 more like this in the last 0 s: again"
    assert output.is_closed


def test_audit_lines_have_more_room(output: Output, clock: Clock) -> None:
    audit = logging.Logger(AUDIT)
    audit.addHandler(LogHandler(output, clock))
    for _ in range(1500):
        audit.info("failed login")
    assert len(output.lines) == 1000
    clock.now += 60
    for _ in range(1500):
        audit.info("failed login")
    assert len(output.lines) == 1000 + 1 + 300
    audit.info("login")
    assert output.lines[-1] == "INFO login"


def test_without_room_nothing_is_raised_or_printed_and_it_goes_on_later(
    log: logging.Logger, output: Output, capfd: pytest.CaptureFixture[str]
) -> None:
    log.info("before")
    output.is_full = True
    log.info("lost %d", 1)
    log.info("lost %d", 2)
    output.is_full = False
    log.info("after")
    log.info("later")
    assert output.lines == [
        "INFO before",
        "WARNING 2 lines are missing here because they could not be written: No space left on device",
        "INFO after",
        "INFO later",
    ]
    assert capfd.readouterr() == ("", "")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("arguments", [("%d", "x"), ("%s", Unprintable()), ("%s %s", 1)])
def test_a_record_that_cannot_be_formatted_is_named(
    arguments: tuple[str, object], log: logging.Logger, output: Output, capfd: pytest.CaptureFixture[str]
) -> None:
    log.info(*arguments)
    (line,) = output.lines
    assert line.startswith(f"INFO ({arguments[0]} in {__file__}: ")
    assert capfd.readouterr() == ("", "")


def test_a_record_has_a_longest_length(log: logging.Logger, output: Output) -> None:
    log.info("%s", "x" * 100_000)
    assert len(output.written) < 9000


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"import logging, os, sys\nfrom pserver.system import log\n{program}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_it_is_set_up_for_all_loggers_of_a_process(tmp_path: Path) -> None:
    program = """
from pathlib import Path
log.set_up(Path(sys.argv[1]))
logging.getLogger("pserver").info("one")
logging.getLogger("other").debug("not this")
logging.getLogger("other").info("two")
for _ in range(200):
    logging.getLogger("pserver").info("many")
"""
    result = run(program, str(tmp_path / "log"))
    assert (result.stdout, result.stderr) == ("", "")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.rpartition(" ")[2] for line in lines[:3]] == ["one", "two", "many"]
    assert "INFO 100 more like this" in lines[-1]


def test_without_a_file_it_goes_to_standard_error() -> None:
    assert run('log.set_up(None); logging.info("one")').stderr.endswith(" INFO one\n")


def test_set_up_again_replaces_and_taken_down_writes_nothing(tmp_path: Path) -> None:
    program = """
from pathlib import Path
log.set_up(Path(sys.argv[1]))
log.set_up(Path(sys.argv[2]))
logging.info("one")
log.take_down()
logging.getLogger("x").info("two")
print(logging.getLogger().handlers)
"""
    result = run(program, str(tmp_path / "a"), str(tmp_path / "b"))
    assert (result.stdout, result.stderr) == ("[]\n", "")
    assert (tmp_path / "b").read_text().endswith("one\n")
    assert not (tmp_path / "a").exists()


def test_a_place_that_cannot_be_written_ends_nothing() -> None:
    result = run('from pathlib import Path\nlog.set_up(Path("/dev/full"))\nlogging.error("x")\nprint("here")')
    assert (result.stdout, result.stderr) == ("here\n", "")


def test_rotation_is_by_whoever_is_told_to(tmp_path: Path) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    others = {name: logging.getLogger(name).level for name in ("pserver", AUDIT)}
    try:
        log_module.set_up(tmp_path / "log", Rotation(200, 2))
        for number in range(10):
            logging.getLogger("pserver").warning("line %d", number)
    finally:
        log_module.take_down()
        root.setLevel(level)
        for name, before in others.items():
            logging.getLogger(name).setLevel(before)
    assert root.handlers == handlers
    assert (tmp_path / "log.1").exists()


def test_below_its_level_nothing_is_written_but_the_audit() -> None:
    program = """
log.set_up(None, form=log.LogForm("text", "error"))
pserver, audit = logging.getLogger("pserver"), logging.getLogger(log.AUDIT)
pserver.warning("not this"), pserver.error("one"), audit.info("two"), logging.getLogger("other").warning("nor this")
log.set_level("debug")
assert log.level_now() == "debug"
pserver.debug("three"), logging.getLogger("other").debug("nor that"), logging.getLogger("other").info("four")
log.set_level("info")
pserver.debug("no more"), pserver.info("five")
"""
    assert re.findall(r"[A-Z]+ (.+)", run(program).stderr) == ["one", "two", "three", "four", "five"]


def test_lines_for_programs_are_objects(tmp_path: Path) -> None:
    program = """
from pathlib import Path
log.set_up(Path(sys.argv[1]), form=log.LogForm("json", "info"))
logging.getLogger("pserver").info("one %s", "\x7f")
for _ in range(101):
    logging.getLogger("pserver").info("many")
"""
    run(program, str(tmp_path / "log"))
    entries = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [entry["message"] for entry in entries[:2]] == ["one \x7f", "many"]
    assert entries[-1]["message"] == "1 more like this in the last 0 s: many"


def test_the_journal_gets_priorities_and_other_outputs_do_not() -> None:
    program = """
facts = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{facts.st_dev}:{facts.st_ino + int(sys.argv[1])}"
log.set_up(None)
logging.getLogger("pserver").warning("one")
"""
    assert run(program, "0").stderr == "<4>WARNING one\n"
    assert re.fullmatch(r"20\S+ \S+ WARNING one\n", run(program, "1").stderr)


def test_a_trace_is_not_cut_short_by_the_limit_of_other_lines(output: Output, clock: Clock) -> None:
    logger = logging.Logger("pserver")
    logger.addHandler(LogHandler(output, clock))
    for number in range(5000):
        logger.debug("job %d", number)
    assert len(output.lines) == 5000

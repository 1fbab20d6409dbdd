"""The memory on both sides."""

import math
import mmap
import struct

import pytest

from pserver.statistics.work import Running, Span, Work
from pserver.statistics.work_page import RING, WORK_BYTES, WorkPage, label_of

AT = 64


@pytest.fixture
def memory() -> mmap.mmap:
    return mmap.mmap(-1, AT + WORK_BYTES)


def test_each_end_is_counted_as_what_it_was(memory: mmap.mmap) -> None:
    worker, supervisor = WorkPage(memory, AT), WorkPage(memory, AT)
    assert supervisor.counts() == Work() and supervisor.spans(0) == ([], 0)
    for number, (is_program, has_failed) in enumerate(
        [(False, False), (False, True), (True, False), (True, True)], 1
    ):
        worker.begin(number, 1000.0, label_of(f"name {number}"), is_program=is_program)
        assert supervisor.running(number) == Running(1000.0, is_program, f"name {number}")
        assert supervisor.running(number + 1) is None
        worker.end(1000.0, 0.5, 0.25, has_failed=has_failed)
    worker.end(1002.0, 0.0, 0.0, has_failed=True)  # it failed before its label was known
    assert supervisor.counts() == Work(1, 2, 0, 1, 1, 0, 2.0, 1.0)
    spans, count = supervisor.spans(3)
    assert (spans, count) == (
        [Span(1000.0, 1000.5, True, "failed", "name 4"), Span(1002.0, 1002.0, False, "failed", "")],
        5,
    )


def test_of_many_the_last_are_there(memory: mmap.mmap) -> None:
    page = WorkPage(memory, AT)
    for number in range(3 * RING):
        page.end(float(number), 0.0, 0.0, has_failed=False)
    spans, count = page.spans(0)
    assert count == 3 * RING and page.counts().jobs_done == 3 * RING
    # The oldest entry is the one that the worker overwrites next.
    assert [span.begin for span in spans] == [float(number) for number in range(2 * RING + 1, 3 * RING)]
    assert page.spans(count) == ([], count)


def test_a_long_name_is_cut_between_characters(memory: mmap.mmap) -> None:
    page = WorkPage(memory, AT)
    page.begin(1, 1.0, label_of("ü" * 79), is_program=False)
    running = page.running(1)
    assert running is not None and running.label == "ü" * 40
    assert label_of("a\udc80b") == b"a?b"


def test_what_user_code_has_written_there_does_no_harm(memory: mmap.mmap) -> None:
    page = WorkPage(memory, AT)
    memory[AT:] = b"\xff" * WORK_BYTES  # invalid numbers, and invalid text
    assert page.counts().processing_seconds == 0.0
    assert page.spans(0)[0] == [] and page.running(2**64 - 1) is None
    memory[AT:] = b"\0" * WORK_BYTES
    struct.pack_into("QQQQQdd", memory, AT, 1, 1, 0, 0, 0, math.inf, -math.inf)
    assert page.counts() == Work(1) and page.spans(5) == ([], 1)

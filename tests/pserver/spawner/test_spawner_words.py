"""Requests to the spawner, and the numbers in them."""

import pytest

from pserver.config.limit_options import SessionLimits
from pserver.spawner.spawner_words import (
    ADOPT,
    END,
    MESSAGE_BYTES,
    START,
    failure,
    node_request,
    read_failure,
    read_node,
    read_number,
)
from pserver.system.process_marks import make_mark


def test_a_number_stands_behind_its_word() -> None:
    assert read_number(b"adopt 17", ADOPT) == 17
    assert read_number(b"adopt 17", END) is None
    mark = make_mark()
    assert read_number(START + str(mark).encode(), START) == mark


@pytest.mark.parametrize(
    "text", [b"", b"-1", b"+1", b" 1", b"1 ", b"1.0", b"x", b"\xff", "\u0661".encode(), b"9" * 20]
)
def test_anything_else_is_no_number(text: bytes) -> None:
    assert read_number(ADOPT + text, ADOPT) is None


def test_a_node_comes_with_its_limits() -> None:
    limits = SessionLimits(memory=2**30, cpu=1.5, cgroup='/a "b"')
    assert read_node(node_request(2**62 - 4, limits)) == (2**62 - 4, limits)


@pytest.mark.parametrize(
    "request_",
    [b"node", b"node ", b"node 1", b"node x {}", b"node 1 []x", b"node 1 7", b'node 1 {"what": 1}', b"end 1 {}",
     b"node 1 " + b"[" * 4000, b"node 1 \xff"],
)  # fmt: skip
def test_one_that_makes_no_sense_is_none(request_: bytes) -> None:
    assert read_node(request_) is None


def test_the_end_of_a_long_failure_is_told() -> None:
    news = failure("ü" * 9999 + "the end")
    assert len(news) <= MESSAGE_BYTES
    assert str(read_failure(news)).endswith("üthe end")

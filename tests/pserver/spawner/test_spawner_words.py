"""Numbers in requests to the spawner."""

import pytest

from pserver.spawner.spawner_words import ADOPT, END, START, read_number
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

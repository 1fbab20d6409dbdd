"""The end of a command's output, and the exact number of missing bytes."""

import re

from hypothesis import given
from hypothesis import strategies as st

from pconnect.commands.captured_output import KEPT_BYTES, CapturedOutput


def test_all_is_kept_up_to_the_limit() -> None:
    printed = CapturedOutput()
    printed.add(b"x" * KEPT_BYTES, 0)
    assert printed.text() == "x" * KEPT_BYTES
    printed.add(b"y", 0)
    assert (
        printed.text()
        == f"(1 bytes before the last {KEPT_BYTES} were cut off)\n" + "x" * (KEPT_BYTES - 1) + "y"
    )


def test_what_was_dropped_is_added_up() -> None:
    printed = CapturedOutput(limit=4)
    printed.add(b"ab", 0)
    printed.add(b"", 5)
    printed.add(b"cdef", 7)
    first, rest = printed.text().split("\n")
    assert first == (
        "(2 bytes before the last 4 were cut off; "
        "12 bytes of output were dropped: this client read nothing for a second)"
    )
    assert rest == "cdef"


def test_a_character_that_was_cut_in_two_is_cut_off() -> None:
    printed = CapturedOutput(limit=5)
    printed.add("ä€𝄞".encode(), 0)
    assert printed.text() == "(5 bytes before the last 4 were cut off)\n𝄞"


def test_a_character_that_comes_in_two_pieces_is_whole() -> None:
    printed = CapturedOutput()
    printed.add(b"\xe2\x82", 0)
    assert printed.text() == "\ufffd"
    printed.add(b"\xac", 0)
    assert printed.text() == "€"


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"))),
    st.integers(4, 20),
)  # a character may have four bytes
def test_the_count_is_exact(pieces: list[str], limit: int) -> None:
    printed = CapturedOutput(limit)
    for piece in pieces:
        printed.add(piece.encode(), 0)
    whole = "".join(pieces)
    notice = re.match(r"\((\d+) bytes before the last (\d+) were cut off\)\n", printed.text())
    kept = printed.text()[notice.end() if notice else 0 :]
    assert whole.endswith(kept)
    assert len(kept.encode()) <= limit
    assert (notice is None) == (kept == whole)
    if notice:
        assert int(notice[1]) == len(whole.encode()) - len(kept.encode())
        assert int(notice[2]) == len(kept.encode())

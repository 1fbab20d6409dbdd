"""Engines' output cannot control the terminal, and colours only its own text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.commands.print_filter import PrintFilter, coloured_text, printed_text, without_colours

RED, BOLD, OFF = "\x1b[31m", "\x1b[1m", "\x1b[0m"
PIECES = st.text() | st.sampled_from([
    RED, BOLD, OFF, "\x1b[38;2;1;2;3m", "\x1b[39m", "\x1b", "\x1b[", "\x1b[3", "m", "\r", "\n", "\t", "\b", "x",
    "\x1b]0;title\x07", "\x1b]52;c;cm0=\x1b\\", "\x1b[2J", "\x1b[1A", "\x9b2J", "\x1bP", "\x1b_", "\x00", "\u202e",
])  # fmt: skip
COLOUR = re.compile(r"\x1b\[[0-9;:]{0,200}m")


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        (" 10%\r 20%\r\n", " 10%\r 20%\r\n"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x1b]52;c;cm0=\x1b\\", r"\x1b]52;c;cm0=\x1b" + "\\"),
        ("\x1b]8;;http://x\x1b\\link", r"\x1b]8;;http://x\x1b" + "\\link"),
        ("\x1b[2J\x1b[1A\x1b[K\x1b[?1049h\x1b[>4;2m", r"\x1b[2J\x1b[1A\x1b[K\x1b[?1049h\x1b[>4;2m"),
        ("\x1bPq\x1b_x\x1bc", r"\x1bPq\x1b_x\x1bc"),
        ("\x9b31m\x85\x90", r"\x9b31m\x85\x90"),
        ("\0\a\b\v\f\x7f", r"\x00\x07\x08\x0b\x0c\x7f"),
        ("\u202egpj.exe\u2028", r"\u202egpj.exe\u2028"),
        ("\x1b[" + "1;" * 40 + "m", r"\x1b[" + "1;" * 40 + "m"),
        ("\x1b[3", r"\x1b[3"),
    ],
)  # fmt: skip
def test_only_text_tabs_and_returns_pass(printed: str, shown: str) -> None:
    assert printed_text(printed) == shown


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (f"{RED}a{OFF}b", f"\x1b[0;31ma{OFF}b"),
        (f"{RED}a", f"\x1b[0;31ma{OFF}"),
        (f"{RED}a\nb\n", f"\x1b[0;31ma{OFF}\n\x1b[0;31mb{OFF}\n"),
        (f"{RED}a\rb", f"\x1b[0;31ma{OFF}\r\x1b[0;31mb{OFF}"),
        (f"{RED}{BOLD}a\x1b[39mb\x1b[22mc", f"\x1b[0;31;1ma\x1b[0;1mb{OFF}c"),
        ("\x1b[1;38;5;9;4ma\x1b[ma", f"\x1b[0;1;38;5;9;4ma{OFF}a"),
        ("\x1b[48;2;1;2;3;38:2::1:2:3ma", f"\x1b[0;48;2;1;2;3;38:2::1:2:3ma{OFF}"),
        ("\x1b[38;7;31ma\x1b[38ma\x1b[38;5ma", "aaa"),
        (f"{RED}\n\n{OFF}a", "\n\na"),
        ("\x1b[12;99ma", "a"),
    ],
)
def test_colours_end_with_the_line_and_go_on_with_the_next(printed: str, shown: str) -> None:
    assert printed_text(printed) == shown


@given(st.lists(PIECES))
def test_whatever_the_pieces_nothing_controls_the_terminal(pieces: list[str]) -> None:
    stream = PrintFilter()
    for shown in [*map(stream.feed, pieces), stream.end()]:
        assert not re.search(r"[^\t\n\r\x20-\x7e\xa0-\U0010ffff]|[\u202a-\u202e]", COLOUR.sub("", shown))
        # Colours are switched off where a line or a piece ends.
        for line in re.split(r"[\r\n]", shown):
            assert ([OFF, *COLOUR.findall(line)])[-1] == OFF


@given(st.lists(PIECES))
def test_what_is_seen_does_not_depend_on_the_pieces(pieces: list[str]) -> None:
    stream = PrintFilter()
    parts = [*map(stream.feed, pieces), stream.end()]
    assert without_colours("".join(parts)) == without_colours(printed_text("".join(pieces)))


def test_each_piece_stands_alone() -> None:
    stream = PrintFilter()
    assert stream.feed(f"{RED}a") == f"\x1b[0;31ma{OFF}"
    assert stream.feed("b\n") == f"\x1b[0;31mb{OFF}\n"
    assert stream.feed("\x1b[3") == ""
    assert stream.feed("9mc") == "c"


def test_the_next_command_begins_without_colours() -> None:
    stream = PrintFilter()
    stream.feed(f"{RED}a\x1b[")
    assert stream.end() == r"\x1b["
    assert stream.feed("b") == "b"


def test_a_display_keeps_its_colours_and_no_returns() -> None:
    assert coloured_text(f"{RED}a{OFF}\r\nb\rc") == f"\x1b[0;31ma{OFF}\nb\\rc"


def test_plain_text_is_looked_at_once_and_not_copied() -> None:
    text = "0.123456789 größer\n" * 1000
    assert PrintFilter().feed(text) is text


@pytest.mark.parametrize("digits", ["9" * 60, "0" * 60, ":" * 60])
def test_short_lines_do_not_become_long_ones(digits: str) -> None:
    stream = PrintFilter()
    for code in ["30", "38", "40", "48", "58", "1", "2", "3", "4", "5", "7", "8", "9", "53"]:
        for form in (f"{code}:2:{digits}", f"{digits};{code}", f"{code};5;{digits}"):
            stream.feed(f"\x1b[{form}m\x1b[{code.rjust(60, '0')}m")
    assert len(stream.feed("a\n" * 1000)) < 150 * 1000


@pytest.mark.parametrize("colour", ["38;5;200", "48;2;1;22;255", "38:2::255:255:255", "4:3", "58:5:9"])
def test_colours_of_all_forms_pass(colour: str) -> None:
    assert printed_text(f"\x1b[{colour}mx") == f"\x1b[0;{colour}mx{OFF}"

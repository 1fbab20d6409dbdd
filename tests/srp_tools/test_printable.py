"""Text from other machines cannot control the terminal."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from srp_tools.errors import ConnectionLostError
from srp_tools.printable import printable_name, printable_text

# Zero-width characters, which have no use in messages.
INVISIBLE = (
    "\xad\u180e\u2061\u2062\u2063\u2064\u2065\u206a\u206b\u206c\u206d\u206e\u206f\ufff9\ufffa\ufffb"
    + "".join(map(chr, range(0x1D173, 0x1D17B)))
)
# Control characters, format characters that set a direction, line separators, and lone surrogates.
HARMFUL = "".join(
    character
    for character in map(chr, range(0x110000))
    if unicodedata.category(character) in {"Cc", "Zl", "Zp", "Cs"}
    or unicodedata.bidirectional(character) in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    or character in "\u200e\u200f\u061c\u200b\u2060\ufeff"
    or 0xE0000 <= ord(character) < 0xE0080
    or character in INVISIBLE
)


def test_each_control_character_becomes_an_escape() -> None:
    for character in set(HARMFUL) - set("\t\n"):
        assert printable_text(f"a{character}b") == f"a{ascii(character)[1:-1]}b"


@given(st.text() | st.text("\x1b\r\n\t\x9b\u202e]0;m[ a"))
def test_nothing_harmful_is_left_and_the_rest_stays(text: str) -> None:
    shown = printable_text(text)
    assert not set(shown) & (set(HARMFUL) - set("\t\n"))
    assert set(text) & set(HARMFUL) - set("\t\n") or shown == text
    assert printable_name(text).isprintable()


def test_lines_stay_lines_in_a_text_and_not_in_a_name() -> None:
    assert printable_text("a\r\n\tb\rc") == "a\n\tb\\rc"
    assert printable_name("a\n\tb\u00a0c") == r"a\n\tb\xa0c"


def test_text_of_people_stays() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # the joiners are not control characters
    text = f"größer, סדר, میخواهم, 時間\u3000割, {family}"
    assert printable_text(text) == text


def test_the_text_of_each_error_is_printable() -> None:
    assert str(ConnectionLostError("\x1b]0;owned\x07 no\nreason")) == r"\x1b]0;owned\x07 no" + "\nreason"

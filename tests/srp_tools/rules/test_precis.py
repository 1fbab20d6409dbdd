"""RFC 8265: the examples of the RFC, each rule once, and properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srp_tools.errors import ConfigurationError
from srp_tools.rules.precis import prepare_name, prepare_password

ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)


@pytest.mark.parametrize(
    ("typed", "prepared"),
    [  # RFC 8265, section 3.5 and more
        ("juliet@example.com", "juliet@example.com"),
        ("fussball", "fussball"),
        ("fu\u00dfball", "fu\u00dfball"),
        ("\u03c0", "\u03c0"),
        ("\u03a3", "\u03a3"),  # the case is preserved
        ("\u03c2", "\u03c2"),
        ("\uff41\uff4c\uff49\uff43\uff45", "alice"),
        ("\uff71\uff72", "\u30a2\u30a4"),  # half width
        ("a\u3000b", "a b"),
        ("ju\u0308rgen", "j\u00fcrgen"),
        ("l\u00b7l", "l\u00b7l"),
        ("\u05d0\u05f3", "\u05d0\u05f3"),
        ("\u0375\u03b1", "\u0375\u03b1"),
        ("\u30a2\u30fb\u30a4", "\u30a2\u30fb\u30a4"),
        ("\u0627\u0661", "\u0627\u0661"),
        ("\u0915\u094d\u200d", "\u0915\u094d\u200d"),  # after a virama
        ("\u05d0\u05d1-1", "\u05d0\u05d1-1"),
        ("\u0627\u0628", "\u0627\u0628"),
    ],
)
def test_names(typed: str, prepared: str) -> None:
    assert prepare_name(typed) == prepared
    assert prepare_name(prepared) == prepared


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("henry\u2163", r"U\+2163, ROMAN NUMERAL FOUR.*another way to write"),  # RFC 8265, section 3.5
        ("\u265a", "U.265A, BLACK CHESS KING.*neither a letter nor a digit"),
        ("a\u00a0b", "U.00A0, NO-BREAK SPACE"),
        ("a\u200bb", "is invisible"),
        ("a\u0640", "looks like another"),
        ("\u1100", "is invisible"),
        ("a\x07", "control character"),
        ("\ufb01", "another way to write"),
        ("a\u00b7b", "is not allowed in this position"),
        ("a\u05f3", "is not allowed in this position"),
        ("a\u0375", "is not allowed in this position"),
        ("a\u30fb", "is not allowed in this position"),
        ("\u0661\u06f1", "is not allowed in this position"),
        ("a\u200d", "is invisible"),
        ("a\u05d0", "are mixed"),
        ("\u05d0a", "are mixed"),
        ("\u06271\u0661", "are mixed"),
        ("\u05d0-", "are mixed"),
    ],
)
def test_invalid_names(name: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        prepare_name(name)


@pytest.mark.parametrize(
    ("typed", "prepared"),
    [  # RFC 8265, section 4.3
        ("correct horse battery staple", "correct horse battery staple"),
        ("Correct Horse Battery Staple", "Correct Horse Battery Staple"),
        ("\u03c0\u00df\u00e5", "\u03c0\u00df\u00e5"),
        ("Jack of \u2666s", "Jack of \u2666s"),
        ("foo\u1680bar", "foo bar"),
        ("a\u00a0b\u3000c", "a b c"),
        ("\uff21\ufb01", "\uff21\ufb01"),
        ("\u05d0a", "\u05d0a"),
    ],
)
def test_passwords(typed: str, prepared: str) -> None:
    assert prepare_password(typed) == prepared


@pytest.mark.parametrize(
    "password", ["my cat is a \tby", "\u2764\ufe0f", "a\u00ad", "\u0640", "a\u00b7", "\ue000", "\u0378"]
)
def test_invalid_passwords_are_not_shown(password: str) -> None:
    with pytest.raises(ConfigurationError, match=r"character \d+ of the password") as caught:
        prepare_password(password)
    assert password not in str(caught.value)


@given(ASCII)
def test_ascii_stays_as_it_is(text: str) -> None:
    assert prepare_name(text) == prepare_password(text) == text


@given(st.text())
def test_what_is_prepared_stays_so(text: str) -> None:
    for prepare in (prepare_name, prepare_password):
        try:
            prepared = prepare(text)
        except ConfigurationError:
            continue
        assert prepare(prepared) == prepared

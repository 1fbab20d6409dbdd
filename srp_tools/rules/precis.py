"""Normal forms of user names and passwords, which keyboards and systems encode differently (RFC 8265, RFC 8264).

A name has the profile UsernameCasePreserved: full-width and half-width characters become the usual width, accented
letters are composed (NFC), and only letters and digits of any script, ASCII signs and spaces are allowed. Spaces are
allowed because other programs create names with them. A password has the profile OpaqueString: every space becomes an
ASCII space, characters are composed, and invisible characters are not allowed. ASCII text is unchanged, so existing
verifiers of ASCII names and passwords remain valid.

One rule needs a table that Python does not have, so it is stricter here: U+200C may only follow a virama (RFC 5892,
appendix A.1, first half). All other rules were compared with the package precis-i18n, a large dependency for so little.
"""

import re
import unicodedata

from srp_tools.errors import ConfigurationError

# RFC 8264, section 9.6 (F): disallowed, although they are letters or marks.
_EXCEPTIONS = frozenset(map(chr, [0x640, 0x7FA, 0x302E, 0x302F, *range(0x3031, 0x3036), 0x303B]))
_ALLOWED = frozenset(map(chr, [0xDF, 0x3C2, 0x6FD, 0x6FE, 0xF0B, 0x3007]))  # the same section
_VIRAMA = 9  # the combining class
_JOINERS = "\u200c\u200d"
# Section 9.9 (I), and the characters of 9.13 (M) that are not already refused for their category.
_HIDDEN = re.compile(
    r"[\u1100-\u11ff\ua960-\ua97c\ud7b0-\ud7c6\ud7cb-\ud7fb]"
    r"|[\u034f\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_ARABIC, _EXTENDED = re.compile("[\u0660-\u0669]"), re.compile("[\u06f0-\u06f9]")
_BETWEEN_LETTERS = "\u00b7\u0375\u05f3\u05f4\u30fb"
_LETTERS_AND_DIGITS = {"Ll", "Lu", "Lo", "Nd", "Lm", "Mn", "Mc"}
_RIGHT_TO_LEFT = {"R", "AL", "AN"}
# Other bidirectional classes that a right-to-left name may contain: RFC 5893, section 2, rules 2 and 5.
_BESIDE = {"ES", "CS", "ET", "ON", "BN", "NSM", "EN"}


def prepare_name(name: str) -> str:
    """Return a user name in its normal form.

    Raises `ConfigurationError` if the name has a character that is not allowed; the message names it and the reason.

    Examples
    --------
    >>> prepare_name("ju\N{COMBINING DIAERESIS}rgen"), prepare_name("\uff21\uff4c\uff49\uff43\uff45 1")
    ('jürgen', 'Alice 1')
    >>> prepare_name("alice\u2665")
    Traceback (most recent call last):
    srp_tools.errors.ConfigurationError: the character '♥' (U+2665, BLACK HEART SUIT) is neither a letter nor a digit
    """
    if name.isascii() and name.isprintable():  # nearly all names; a server checks thousands at each login
        return name
    prepared = unicodedata.normalize("NFC", "".join(map(_usual_width, name)))
    for place, character in enumerate(prepared):
        why = _why_not(prepared, place) or _why_not_in_names(character)
        if why:
            known = unicodedata.name(character, "unnamed")
            raise ConfigurationError(f"the character {character!r} (U+{ord(character):04X}, {known}) {why}")
    if not _has_one_direction(prepared):
        raise ConfigurationError("left-to-right and right-to-left letters are mixed (RFC 5893)")
    return prepared


def prepare_password(password: str) -> str:
    """Return a password in its normal form.

    Raises `ConfigurationError` for a character that is not allowed; the message has its position and the reason.

    Examples
    --------
    >>> prepare_password("cafe\N{COMBINING ACUTE ACCENT}\N{NO-BREAK SPACE}au lait")
    'café au lait'
    """
    spaces = "".join(" " if unicodedata.category(each) == "Zs" else each for each in password)
    prepared = unicodedata.normalize("NFC", spaces)
    for place in range(len(prepared)):
        if why := _why_not(prepared, place):
            raise ConfigurationError(f"character {place + 1} of the password {why}")
    return prepared


def _usual_width(character: str) -> str:
    kind, _, code = unicodedata.decomposition(character).partition(" ")
    return chr(int(code, 16)) if kind in {"<wide>", "<narrow>"} else character


def _why_not(text: str, place: int) -> str:
    """Return why neither a name nor a password may have a character, or "" if they may (the class FreeformClass)."""
    character = text[place]
    if character.isascii():
        return "" if character.isprintable() else "is a control character"
    if character in _JOINERS:
        is_right = place > 0 and unicodedata.combining(text[place - 1]) == _VIRAMA
        return "" if is_right else "is invisible"
    if character in _ALLOWED:
        return ""
    if _HIDDEN.match(character) or character in _EXCEPTIONS or not character.isprintable():
        return "is invisible, or looks like another"
    return "" if _stands_right(text, place) else "is not allowed in this position (RFC 5892, appendix A)"


def _stands_right(text: str, place: int) -> bool:
    """Whether a character has the neighbours that it requires: RFC 5892, appendix A.3 to A.9."""
    before, after = text[place - 1 : place] if place else "", text[place + 1 : place + 2]
    match text[place]:
        case "\N{MIDDLE DOT}":
            return before == after == "l"
        case "\N{GREEK LOWER NUMERAL SIGN}":
            return _is_of(after, "GREEK")
        case "\N{HEBREW PUNCTUATION GERESH}" | "\N{HEBREW PUNCTUATION GERSHAYIM}":
            return _is_of(before, "HEBREW")
        case "\N{KATAKANA MIDDLE DOT}":
            others = text.replace("\N{KATAKANA MIDDLE DOT}", "")
            return any(_is_of(each, "HIRAGANA", "KATAKANA LETTER", "CJK") for each in others)
        case digit if _ARABIC.match(digit) or _EXTENDED.match(digit):
            return not (_ARABIC.search(text) and _EXTENDED.search(text))
    return True


def _is_of(character: str, *scripts: str) -> bool:
    return bool(character) and unicodedata.name(character, "").startswith(scripts)


def _why_not_in_names(character: str) -> str:
    """Return why a name may not have a character that a password may have (the class IdentifierClass)."""
    if character.isascii() or character in _ALLOWED or character in _JOINERS:
        return ""
    if unicodedata.normalize("NFKC", character) != character:
        return "is another way to write other characters"
    is_letter = unicodedata.category(character) in _LETTERS_AND_DIGITS
    return "" if is_letter or character in _BETWEEN_LETTERS else "is neither a letter nor a digit"


def _has_one_direction(name: str) -> bool:
    """Whether a name that contains right-to-left letters follows RFC 5893, section 2."""
    kinds = [unicodedata.bidirectional(each) for each in name]
    if not _RIGHT_TO_LEFT.intersection(kinds):
        return True
    end = [kind for kind in kinds if kind != "NSM"][-1:]
    if kinds[0] in {"R", "AL"}:
        is_known = _RIGHT_TO_LEFT.union(_BESIDE).issuperset(kinds)
        return is_known and end[0] in {"R", "AL", "EN", "AN"} and not {"EN", "AN"}.issubset(kinds)
    return False  # the first letter is left-to-right, so right-to-left letters are not allowed

"""Which passwords are easily guessed, as far as can be seen from themselves, without reading or writing.

Anyone who gets hold of a verifier tries 10**10 passwords a second and more, because SRP hashes with SHA-1. They begin
with words that many people use, user names, rows of keys, years, and repetitions. Here each such part counts as
one character, and what then has fewer than nine is weak. Packages that estimate better bring lists of hundreds of
kilobytes; this says what is wrong with most passwords that people think of in a hurry.
"""

import re

from srp_tools.rules.common_passwords import COMMON

LEAST_CHARACTERS = 8  #: with fewer, all are tried within hours; as in NIST SP 800-63B, section 5.1.1
GOOD_CHARACTERS = 12  #: what is advised

_LEAST_VARIETY = 4  # different characters; else it is "aaaaaaaaaaaa" or "121212121212"
_LEAST_PART = 4  # characters; shorter ones are found in random passwords, too
_LEAST_WORTH = 9  # characters that a password counts for
_LONGEST_PART = max(map(len, COMMON))
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz 1234567890 qwertyuiop qwertzuiop asdfghjkl zxcvbnm yxcvbnm azertyuiop qsdfghjklm "
    "1qaz2wsx3edc4rfv5tgb6yhn 1q2w3e4r5t6z7u8i9o 1q2w3e4r5t6y7u8i9o"
)
_IN_ROWS = "\n".join(f"{_ROWS} {_ROWS[::-1]}".split())
_YEAR = re.compile(r"(19|20)\d\d")
_REPETITION = re.compile(r"(.+?)\1{2,}")
# What people write in the place of letters.
_DISGUISES = str.maketrans("0134578@$!|", "oieastbasil")


def weakness(password: str, user: str) -> str:
    """Return why a password is easily guessed, in words that do not show it; empty if nothing was found.

    Examples
    --------
    >>> weakness("abc", "alice")
    'it has only 3 characters'
    >>> weakness("P4ssw0rd2024!", "alice")
    'it is little more than words, names, years or rows of keys that are tried first'
    >>> weakness("correct horse battery staple", "alice")
    ''
    """
    if len(password) < GOOD_CHARACTERS:
        return f"it has only {len(password)} character{'s' if len(password) > 1 else ''}"
    if len(set(password)) < _LEAST_VARIETY:
        return f"it has only {len(set(password))} different characters"
    shown = password.casefold()
    name = user.casefold()
    without_name = shown.replace(name, "\0").replace(name[::-1], "\0") if len(name) >= _LEAST_PART else shown
    if _worth(without_name) >= _LEAST_WORTH:
        return ""
    if "\0" in without_name:
        return "it is little more than the user name"
    return "it is little more than words, names, years or rows of keys that are tried first"


def _worth(text: str) -> int:
    """Return how many characters a text counts for, whose known parts count as one each."""
    return min(len(_shortened(text)), len(_shortened(text.translate(_DISGUISES))))


def _shortened(text: str) -> str:
    text = _REPETITION.sub(r"\1", text)
    text = _YEAR.sub("\0", text)
    result, place = "", 0
    while place < len(text):
        size = _known_part(text, place)
        result += "\0" if size else text[place]
        place += size or 1
    return result


def _known_part(text: str, place: int) -> int:
    """Return the length of the longest known part that begins at a place; 0 if none does."""
    longest = min(len(text) - place, _LONGEST_PART)
    for size in range(longest, _LEAST_PART - 1, -1):
        part = text[place : place + size]
        if part in COMMON or part in _IN_ROWS:
            return size
    return 0

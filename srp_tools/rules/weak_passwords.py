"""Recognize passwords that are easily guessed, from the password alone. Sans-I/O.

Anyone who has a verifier can try 10**10 passwords per second or more, because SRP hashes with SHA-1. They try common
words, user names, keyboard rows, years and repetitions first. Here each such part counts as one character, and a
password that then has fewer than nine characters is weak. Packages with better estimates contain lists of hundreds of
kilobytes; this module recognizes most passwords that people choose in a hurry.
"""

import re

from srp_tools.rules.common_passwords import COMMON

LEAST_CHARACTERS = 8  #: all shorter passwords can be tried within hours; as in NIST SP 800-63B, section 5.1.1
GOOD_CHARACTERS = 12  #: the recommended length

_LEAST_VARIETY = 4  # different characters; fewer are passwords like "aaaaaaaaaaaa" or "121212121212"
_LEAST_PART = 4  # characters; shorter parts also occur in random passwords
_LEAST_WORTH = 9  # characters, with each known part counted as one
_LONGEST_PART = max(map(len, COMMON))
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz 1234567890 qwertyuiop qwertzuiop asdfghjkl zxcvbnm yxcvbnm azertyuiop qsdfghjklm "
    "1qaz2wsx3edc4rfv5tgb6yhn 1q2w3e4r5t6z7u8i9o 1q2w3e4r5t6y7u8i9o"
)
_IN_ROWS = "\n".join(f"{_ROWS} {_ROWS[::-1]}".split())
_YEAR = re.compile(r"(19|20)\d\d")
_REPETITION = re.compile(r"(.+?)\1{2,}")
# Characters that people write instead of letters.
_DISGUISES = str.maketrans("0134578@$!|", "oieastbasil")


def weakness(password: str, user: str) -> str:
    """Return why a password is easily guessed, without revealing it, or "" if it is not.

    Examples
    --------
    >>> weakness("abc", "alice")
    'it has only 3 characters'
    >>> weakness("P4ssw0rd2024!", "alice")
    'it consists mainly of common words, names, years or keyboard rows'
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
        return "it consists mainly of the user name"
    return "it consists mainly of common words, names, years or keyboard rows"


def _worth(text: str) -> int:
    """Return the length of a text, with each known part counted as one character."""
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
    """Return the length of the longest known part that begins at `place`, or 0."""
    longest = min(len(text) - place, _LONGEST_PART)
    for size in range(longest, _LEAST_PART - 1, -1):
        part = text[place : place + size]
        if part in COMMON or part in _IN_ROWS:
            return size
    return 0

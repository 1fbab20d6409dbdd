r"""Text from other machines, made safe to print.

A terminal obeys control characters: they move the cursor, erase text, set the title, or write to the clipboard. Others
change the writing direction or end a line unexpectedly. This module replaces each of them by its Python escape, such as
``\x1b`` or ``\u202e``. The output of engines goes through `pconnect.commands.print_filter` instead, which keeps colours
and invisible characters.
"""

import re

#: For the brackets of a regular expression: C0 without tab and newline, DEL and C1; characters that set the writing
#: direction (Unicode Standard Annex 9); line and paragraph separators; surrogates.
CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"

# Invisible characters make a name look like another. U+200C and U+200D are allowed: scripts and emoji need them.
_INVISIBLE = (
    r"\xad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_CONTROL = re.compile(rf"\r\n|[{CONTROLS}{_INVISIBLE}]")


def printable_text(text: str) -> str:
    r"""Return text of one or more lines without control characters or invisible characters.

    Examples
    --------
    >>> print(printable_text("red: \x1b[31m\r\nnext line"))
    red: \x1b[31m
    next line
    """
    return text if text.isprintable() else _CONTROL.sub(_escaped, text)


def printable_name(text: str) -> str:
    r"""Return text on one line in which every character is visible, including unusual kinds of spaces.

    Examples
    --------
    >>> print(printable_name("a\nb\u202ec"))
    a\nb\u202ec
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else escape(character) for character in text)


def escape(character: str) -> str:
    r"""Return the Python escape of a character that cannot be printed: ``\n``, ``\x1b``, ``\u202e``."""
    return repr(character)[1:-1]


def _escaped(found: re.Match[str]) -> str:
    return "\n" if found[0] == "\r\n" else escape(found[0])

r"""Text from other machines, made safe to print.

A terminal obeys control characters: they move, erase, set its title, reach its clipboard. Others turn the direction of
writing or end a line where nobody expects it. Here each of them becomes the escape that Python writes for it, such as
``\x1b`` or ``\u202e``. What engines print goes through `pconnect.commands.print_filter`, which lets colours pass,
and characters that are invisible.
"""

import re

#: For the brackets of a regular expression: C0 without tab and newline, DEL and C1; what sets the direction of writing
#: (Unicode Standard Annex 9); the separators of lines and paragraphs; halves of surrogate pairs.
CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"

# Nobody sees these, so a name that has one looks like another. Not U+200C and U+200D, which scripts and emoji need.
_INVISIBLE = (
    r"\xad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_CONTROL = re.compile(rf"\r\n|[{CONTROLS}{_INVISIBLE}]")


def printable_text(text: str) -> str:
    r"""Return text of one or more lines in which nothing controls a terminal or is invisible.

    Examples
    --------
    >>> print(printable_text("red: \x1b[31m\r\nnext line"))
    red: \x1b[31m
    next line
    """
    return text if text.isprintable() else _CONTROL.sub(_escaped, text)


def printable_name(text: str) -> str:
    r"""Return text that stays on one line and shows all that is in it, also spaces of unusual kinds.

    Examples
    --------
    >>> print(printable_name("a\nb\u202ec"))
    a\nb\u202ec
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else escape(character) for character in text)


def escape(character: str) -> str:
    r"""Return how Python writes a character that cannot be printed: ``\n``, ``\x1b``, ``\u202e``."""
    return repr(character)[1:-1]


def _escaped(found: re.Match[str]) -> str:
    return "\n" if found[0] == "\r\n" else escape(found[0])

"""Plain text in Markdown."""

import re


def escaped(text: str) -> str:
    r"""Return plain text with the characters escaped that mean something in Markdown.

    Examples
    --------
    >>> escaped("a_b <c> *d*")
    'a\\_b \\<c> \\*d\\*'
    """
    return re.sub(r"([\\`*_\[\]<{}$#|~])", r"\\\1", " ".join(text.split()))

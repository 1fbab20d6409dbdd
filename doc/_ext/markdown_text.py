"""Plain text in Markdown."""

import re


def escaped(text: str) -> str:
    r"""Return plain text with Markdown's special characters escaped.

    Examples
    --------
    >>> escaped("a_b <c> *d*")
    'a\\_b \\<c> \\*d\\*'
    """
    return re.sub(r"([\\`*_\[\]<{}$#|~])", r"\\\1", " ".join(text.split()))

"""Response files: the compiler argument ``@file`` stands for the arguments in that file. The rules are GCC's."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

#: The limit of GCC (libiberty, `expandargv`): with more files, they probably include each other in a circle.
MAX_FILES = 2000

_SPACE = " \t\n\v\f\r"
# A backslash makes the next character literal, outside quotes and inside both kinds of quotes.
_PIECE = re.compile(
    r"""\\(?P<escaped>.?)|(?P<quote>['"])|(?P<space>[ \t\n\v\f\r]+)|(?P<plain>[^\\'" \t\n\v\f\r]+)""",
    re.DOTALL,
)


def read_file(path: Path) -> str:
    """Return the text of a response file. Bytes that are not UTF-8 are kept as surrogate escapes."""
    return path.read_bytes().decode("utf-8", "surrogateescape")


def expand(words: Sequence[str], folder: str, *, read: Callable[[Path], str] = read_file) -> list[str]:
    """Return `words` with each ``@file`` replaced by the words in that file. Files may name further files.

    Parameters
    ----------
    words
        The command line. The first word, the name of the program, is never a response file.
    folder
        The folder that relative names refer to.
    read
        Returns the text of a file.

    Raises
    ------
    ValueError
        There are more than 2000 files: they probably include each other.

    Notes
    -----
    If a file cannot be read, the word stays unchanged, as in GCC.
    """
    expanded, left, files = list(words[:1]), list(reversed(words[1:])), 0
    while left:
        word = left.pop()
        text = _text(word, folder, read)
        if text is None:
            expanded.append(word)
            continue
        files += 1
        if files > MAX_FILES:
            raise ValueError(
                f"more than {MAX_FILES} response files: look for one that includes itself, such as {word}"
            )
        left.extend(reversed(split(text)))
    return expanded


def _text(word: str, folder: str, read: Callable[[Path], str]) -> str | None:
    if len(word) < 2 or word[0] != "@":
        return None
    try:
        return read(Path(folder, word[1:]))
    except (OSError, ValueError):  # `ValueError`: the name contains a NUL
        return None


def split(text: str) -> list[str]:
    r"""Split the text of a response file into words.

    Examples
    --------
    >>> split('-DA=\\"x\\" "two words" \'a"b\' c\\ d ""')
    ['-DA="x"', 'two words', 'a"b', 'c d', '']
    """
    words: list[str] = []
    word: str | None = None
    quote = ""
    for piece in _PIECE.finditer(text):
        if piece["space"] and not quote:
            words += [] if word is None else [word]
            word = None
            continue
        if piece["quote"] and quote in ("", piece["quote"]):
            quote = "" if quote else piece["quote"]
            word = word or ""
            continue
        word = (word or "") + (piece["escaped"] if piece["escaped"] is not None else piece[0])
    return words if word is None else [*words, word]

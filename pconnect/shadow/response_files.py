"""Response files: ``@file`` among the words of a compiler stands for the words in that file, as GCC reads it."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

#: As in GCC (libiberty, `expandargv`): more files than these are taken for files that name each other in a circle.
MAX_FILES = 2000

_SPACE = " \t\n\v\f\r"
# Outside quotes a backslash takes the next character as it is, and so it does inside both kinds of quotes.
_PIECE = re.compile(
    r"""\\(?P<escaped>.?)|(?P<quote>['"])|(?P<space>[ \t\n\v\f\r]+)|(?P<plain>[^\\'" \t\n\v\f\r]+)""",
    re.DOTALL,
)


def read_file(path: Path) -> str:
    """Return the text of a response file; bytes that are no text stay what they are."""
    return path.read_bytes().decode("utf-8", "surrogateescape")


def expand(words: Sequence[str], folder: str, *, read: Callable[[Path], str] = read_file) -> list[str]:
    """Return `words` with each ``@file`` replaced by the words in that file, which may name further files.

    Parameters
    ----------
    words
        What the program was called with. The first, its own name, is never a response file.
    folder
        What relative names start from.
    read
        Returns the text of a file.

    Raises
    ------
    ValueError
        More than 2000 files, so that they probably name each other.

    Notes
    -----
    A file that cannot be read is no response file: the word stays, as in GCC.
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
                f"more than {MAX_FILES} response files: look for one that names itself, such as {word}"
            )
        left.extend(reversed(split(text)))
    return expanded


def _text(word: str, folder: str, read: Callable[[Path], str]) -> str | None:
    if len(word) < 2 or word[0] != "@":
        return None
    try:
        return read(Path(folder, word[1:]))
    except (OSError, ValueError):  # the latter: a NUL in the name
        return None


def split(text: str) -> list[str]:
    r"""Return the words of a response file's text.

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

"""The input of a compile step on another machine: its words, its standard input, and the files for its folder."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from pconnect.shadow.compiler_words import Away, Family
from pconnect.shadow.source.clang_files import compiler_proper, driver_warnings, with_contents
from pconnect.shadow.source.preprocessed_text import (
    all_files,
    files_shown,
    for_compiler,
    put_inside,
    restoring,
)

#: Returns the contents of the file with a local name; ``None`` if it cannot be read.
Read = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Given:
    """The input for another machine.

    Attributes
    ----------
    words, source, files
        The words of the program, its standard input, and the files in its folder by name.
    beginnings
        The prefixes of names that `put_inside` changed.
    warnings
        Warnings that a local compiler would print first and the remote one does not print.
    """

    words: list[str]
    source: bytes
    files: dict[str, bytes]
    beginnings: Mapping[str, str] = field(default_factory=dict)
    warnings: bytes = b""

    def with_old_names(self, said: bytes) -> bytes:
        """Return the output of the compiler with the local names of files."""
        for inner, outer in self.beginnings.items():
            said = said.replace(inner.encode(), outer.encode())
        return said


def as_one_text(away: Away, output: str, directory: str, text: bytes, read: Read) -> Given:
    """Return input with the preprocessed source, and with the files whose lines GCC shows in its messages.

    Parameters
    ----------
    output
        The name of the object on the other machine.
    directory
        The folder that debugging information must name.
    """
    words = away.compile(output, directory if away.debug else "")
    source = for_compiler(text, away.form)
    beginnings: dict[str, str] = {}
    # After a `ValueError`, files of other folders keep their names, and GCC cannot show their lines.
    with suppress(ValueError):
        inside, found = put_inside(source)
        words += restoring(away, found)
        source, beginnings = inside, found
    files: dict[str, bytes] = {}
    # Clang takes the lines from its source.
    for name in files_shown(source) if away.family is Family.GCC else ():
        # Generated source may name files that do not exist.
        if (data := read(_outside(name, beginnings))) is not None:
            files[name] = data
    if away.source_file:
        source, files[away.source_file] = b"", source
    return Given(words, source, files, beginnings)


def as_files(away: Away, shown: str, folder: str, text: bytes, read: Read) -> Given:
    """Return input with all files that Clang reads. `shown`: the output of ``-###``; `folder`: its local folder.

    Raises
    ------
    ValueError
        Clang reads other files, too, or runs other programs, or reaches files in its folder by relative and absolute
        paths. In the last case it records one of the two paths, depending on its earlier searches.
    """
    words = compiler_proper(shown)
    names = all_files(text)
    if any(not name.startswith("/") for name in names) and any(
        name.startswith(f"{folder}/") for name in names
    ):
        raise ValueError("Clang's -g records files of this folder by relative and by absolute paths")
    files = with_contents(names, words, read)
    return Given([away.compiler, *words], b"", files, warnings=driver_warnings(shown))


def _outside(name: str, beginnings: Mapping[str, str]) -> str:
    """Return the local name of a file."""
    for inner, outer in beginnings.items():
        if name.startswith(inner):
            return outer + name.removeprefix(inner)
    return name

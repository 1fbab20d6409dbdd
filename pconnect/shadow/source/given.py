"""What another machine is given for a compile step: the words, the standard input, and files for its folder."""

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

#: Returns the contents of a file by its name here; ``None`` if it cannot be read.
Read = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Given:
    """What another machine is given.

    Attributes
    ----------
    words, source, files
        Of the program, its standard input, and what is in its folder before, by name.
    beginnings
        What `put_inside` has changed.
    warnings
        What a compiler here would have said before all others, and the one there does not say.
    """

    words: list[str]
    source: bytes
    files: dict[str, bytes]
    beginnings: Mapping[str, str] = field(default_factory=dict)
    warnings: bytes = b""

    def with_old_names(self, said: bytes) -> bytes:
        """Return what the compiler said, with the names that files have here."""
        for inner, outer in self.beginnings.items():
            said = said.replace(inner.encode(), outer.encode())
        return said


def as_one_text(away: Away, output: str, directory: str, text: bytes, read: Read) -> Given:
    """Return the preprocessed source as it is to be compiled, with what GCC shows of it in its messages.

    Parameters
    ----------
    output
        The object's name there.
    directory
        The folder that debugging information is to name.
    """
    words = away.compile(output, directory if away.debug else "")
    source = for_compiler(text, away.form)
    beginnings: dict[str, str] = {}
    # Otherwise files of other folders keep their names, and their lines are not shown.
    with suppress(ValueError):
        inside, found = put_inside(source)
        words += restoring(away, found)
        source, beginnings = inside, found
    files: dict[str, bytes] = {}
    # Clang has the lines in its source.
    for name in files_shown(source) if away.family is Family.GCC else ():
        # Generated source names files that need not be there.
        if (data := read(_outside(name, beginnings))) is not None:
            files[name] = data
    if away.source_file:
        source, files[away.source_file] = b"", source
    return Given(words, source, files, beginnings)


def as_files(away: Away, shown: str, folder: str, text: bytes, read: Read) -> Given:
    """Return all files that Clang reads. `shown`: what ``-###`` writes; `folder`: where it runs here.

    Raises
    ------
    ValueError
        Clang reads other files, too, or does more than to compile, or it finds files of its folder by two kinds of
        paths. Then it records one of them, depending on what it has looked for before.
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
    """Return the name that a file has here."""
    for inner, outer in beginnings.items():
        if name.startswith(inner):
            return outer + name.removeprefix(inner)
    return name

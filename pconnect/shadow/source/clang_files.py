"""Collect all files that Clang reads, for a machine that has none of them. Clang sees them at their paths here.

Clang needs all files because DWARF 5 has their checksums. An overlay of the file system maps each path to its contents.
A path outside the overlay does not exist for Clang, whatever files that machine has. Relative names stay relative:
there they refer to ``/proc/self/cwd``, the name that Clang has for its working folder.
"""

import json
import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from pconnect.shadow.compiler_words import HERE_THERE

#: The names of the overlay and of the folder with the contents, in the folder on the other machine.
OVERLAY, CONTENTS = ".overlay.yaml", ".contents"

_FOLDERS = (
    "-I",
    "-iquote",
    "-isystem",
    "-idirafter",
    "-internal-isystem",
    "-internal-externc-isystem",
    "-c-isystem",
)
# The source may test whether a file exists without reading it. The answer there must be the same as here.
_HAS_INCLUDE = re.compile(rb'__has_include(?:_next)?[ \t]*\([ \t]*[<"]([^>"\n]+)[>"]')
# Options that make the compiler proper read or write other files of this machine.
_OTHER_FILES = (
    "-fsanitize-system-ignorelist",
    "-fmodule",
    "-fprofile",
    "-load",
    "-include-pch",
    "-ivfsoverlay",
    "-split-dwarf",
)


def compiler_proper(shown: str) -> list[str]:
    """Return the arguments of the only command that ``clang -###`` shows.

    Raises
    ------
    ValueError
        It shows other commands, such as an assembler, or the command reads files that are not known here.
    """
    commands = [shlex.split(line) for line in shown.splitlines() if line.startswith(' "')]
    if len(commands) != 1 or "-cc1" not in commands[0][1:2]:
        raise ValueError("Clang runs more than the compiler proper")
    if other := next((word for word in commands[0] if word.startswith(_OTHER_FILES)), None):
        raise ValueError(f"{other} names a file on this machine")
    return [*commands[0][1:], "-ivfsoverlay", f"{HERE_THERE}/{OVERLAY}"]


def driver_warnings(shown: str) -> bytes:
    """Return the warnings of Clang's driver, for instance about an unused argument."""
    lines = [line for line in shown.splitlines(keepends=True) if re.match(r"\S+: (\x1b\S*)?warning: ", line)]
    return "".join(lines).encode("utf-8", "surrogateescape")


def with_contents(
    names: Iterable[str], words: Sequence[str], read: Callable[[str], bytes | None]
) -> dict[str, bytes]:
    """Return the files for the folder on the other machine: the overlay, and the contents of all files.

    Parameters
    ----------
    names
        The files that Clang reads, as it names them.
    words
        The words of the compiler proper, with the folders that it searches for files.
    read
        Returns the contents of a file here, or ``None`` if it does not exist.
    """
    found: dict[str, bytes] = {}
    for name in sorted(set(names)):
        if (data := read(name)) is not None:
            found[name] = data
    folders = [then for word, then in pairwise(words) if word in _FOLDERS]
    for name in _possible_paths(found, folders):
        if name not in found and (data := read(name)) is not None:
            found[name] = data
    contents: dict[str, bytes] = {}
    roots = []
    for number, (name, data) in enumerate(found.items()):
        contents[f"{CONTENTS}/{number}"] = data
        path = posixpath.normpath(posixpath.join(HERE_THERE, name))
        roots.append({"name": path, "type": "file", "external-contents": f"{CONTENTS}/{number}"})
    overlay = {
        "version": 0,
        "use-external-names": False,
        "overlay-relative": True,
        "fallthrough": False,
        "roots": roots,
    }
    return {OVERLAY: json.dumps(overlay).encode(), **contents}


def _possible_paths(found: dict[str, bytes], folders: Sequence[str]) -> set[str]:
    """Return all paths at which the files named in ``__has_include`` could be."""
    names = set()
    for name, data in found.items():
        for raw in set(_HAS_INCLUDE.findall(data)):
            asked = raw.decode("utf-8", "surrogateescape")
            names |= {posixpath.join(folder, asked) for folder in (posixpath.dirname(name), *folders)}
    return names

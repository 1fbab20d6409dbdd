"""All files that Clang reads, for a machine that has none of them: it sees them at the paths that they have here.

It is what Clang needs to write checksums of all files into DWARF 5. An overlay of its file system says where the
contents of each path lie; what is not in it does not exist for it there, whatever that machine has. Names that are
relative here stay so: there they are relative to ``/proc/self/cwd``, by which name its folder goes.
"""

import json
import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from pconnect.shadow.compiler_words import HERE_THERE

#: Where the overlay and the contents lie in the folder of the other machine.
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
# A file that is only asked for, not read, must exist there if it exists here.
_ASKED_FOR = re.compile(rb'__has_include(?:_next)?[ \t]*\([ \t]*[<"]([^>"\n]+)[>"]')
# What else of this machine the compiler proper may read.
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
    """Return the words after the first of the one command of which ``clang -###`` says that it would run it.

    Raises
    ------
    ValueError
        There are more, such as an assembler, or it reads files that are not known here.
    """
    commands = [shlex.split(line) for line in shown.splitlines() if line.startswith(' "')]
    if len(commands) != 1 or "-cc1" not in commands[0][1:2]:
        raise ValueError("Clang does more than to compile")
    if other := next((word for word in commands[0] if word.startswith(_OTHER_FILES)), None):
        raise ValueError(f"{other} names a file of this machine")
    return [*commands[0][1:], "-ivfsoverlay", f"{HERE_THERE}/{OVERLAY}"]


def driver_warnings(shown: str) -> bytes:
    """Return what Clang's driver warns of, for instance that it does not use an argument."""
    lines = [line for line in shown.splitlines(keepends=True) if re.match(r"\S+: (\x1b\S*)?warning: ", line)]
    return "".join(lines).encode("utf-8", "surrogateescape")


def with_contents(
    names: Iterable[str], words: Sequence[str], read: Callable[[str], bytes | None]
) -> dict[str, bytes]:
    """Return the files for the folder there: the overlay, and the contents of all files.

    Parameters
    ----------
    names
        Of files that Clang reads, as it names them.
    words
        Of the compiler proper, with the folders in which it looks for files.
    read
        Returns the contents of a file here, or ``None`` if there is none of this name.
    """
    found: dict[str, bytes] = {}
    for name in sorted(set(names)):
        if (data := read(name)) is not None:
            found[name] = data
    folders = [then for word, then in pairwise(words) if word in _FOLDERS]
    for name in _asked_for(found, folders):
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


def _asked_for(found: dict[str, bytes], folders: Sequence[str]) -> set[str]:
    """Return the names under which files might be that the source asks for."""
    names = set()
    for name, data in found.items():
        for raw in set(_ASKED_FOR.findall(data)):
            asked = raw.decode("utf-8", "surrogateescape")
            names |= {posixpath.join(folder, asked) for folder in (posixpath.dirname(name), *folders)}
    return names

"""Which program a name means: the search in PATH, past stand-ins and what else only passes calls on."""

import os
import re
import shutil
import stat
import sys
from pathlib import Path

from pconnect.shadow.stand_in import StandIn, read_stand_in
from srp_tools.errors import ConfigurationError

# Programs that stand in for compilers by links of their names, and search PATH for the next one of that name: they
# would find a stand-in that runs them, and so on without end.
_FORWARDERS = {"ccache", "distcc", "icecc", "sccache"}

_GCC = re.compile(r"(.+-)?(gcc|g\+\+)(-\d+(\.\d+)*)?_?")


def folders_of(path: str) -> list[str]:
    """Return the absolute folders of a search path, each once. Programs of the current folder are not shadowed."""
    return list(dict.fromkeys(folder for folder in path.split(":") if folder.startswith("/")))


def candidates(name: str, path: str) -> list[str]:
    """Return the absolute paths of all programs of a name, in the order of a search path."""
    found = (os.path.join(folder, name) for folder in folders_of(path))  # noqa: PTH118 - its bytes need not be text
    return [each for each in found if is_program(each)]


def is_program(path: str) -> bool:
    """Return whether a path is that of a file that can be executed."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode) and os.access(path, os.X_OK)
    except OSError:
        return False


def needs_own_folder(path: str) -> bool:
    """Return whether a program looks for others by the folder in its first argument, which no link elsewhere has.

    Scripts do, and gcc with the option ``-no-canonical-prefixes``. What else a program is called, gcc does not care;
    clang does, as other programs that have several names.
    """
    try:
        with Path(path).open("rb") as file:
            is_script = file.read(2) == b"#!"
    except OSError:
        is_script = False
    return is_script or _GCC.fullmatch(os.path.basename(os.path.realpath(path))) is not None  # noqa: PTH119


def forwarder_of(path: str) -> str:
    """Return the name of the compiler cache or the like that a program is a link to, ``""`` if it is none.

    Examples
    --------
    >>> forwarder_of("/bin/sh")
    ''
    """
    target = os.path.basename(os.path.realpath(path))  # noqa: PTH119
    return target if target in _FORWARDERS and os.path.basename(path) != target else ""  # noqa: PTH119


def _is_put_before(path: str) -> bool:
    """Return whether a program is a stand-in of a folder of them. One in place is the program."""
    stand_in = read_stand_in(path)
    return stand_in is not None and not stand_in.in_place


def find_program(name: str, path: str) -> str:
    """Return the absolute path of the program that a name means without stand-ins.

    Raises `ConfigurationError` if there is none.
    """
    found = candidates(name, path)
    for each in found:
        if not forwarder_of(each) and not _is_put_before(each):
            return each
    passed = f" but {', '.join(found)}, which would pass calls on to another" if found else ""
    raise ConfigurationError(f"there is no program {name} in PATH{passed}; install it, or correct its name")


def first_found(name: str, path: str) -> str:
    """Return the path of what runs when a name is called, ``""`` if nothing does.

    A compiler cache is passed over: it calls what comes behind it.
    """
    return next((each for each in candidates(name, path) if not forwarder_of(each)), "")


def is_same(one: str, other: str) -> bool:
    """Return whether two paths lead to the same file or folder."""
    try:
        return os.path.samefile(one, other)  # noqa: PTH121
    except OSError:
        return False


def find_prun(given: str | None, path: str) -> str:
    """Return the absolute path of `prun`: the given one, that of this installation, or that in PATH.

    Raises `ConfigurationError` if there is none.
    """
    here = os.path.join(os.path.dirname(sys.executable), "prun")  # noqa: PTH118, PTH120
    found = given if given is not None else here if is_program(here) else shutil.which("prun", path=path)
    if found is None or not is_program(found):
        place = "beside this Python, nor in PATH" if given is None else f"at {given}"
        raise ConfigurationError(f"there is no prun {place}; install it, or name it with --prun FILE")
    return os.path.realpath(found)


def what_is_wrong(stand_in: StandIn) -> str:
    """Return why a stand-in cannot do its work, ``""`` if it can."""
    if not is_program(stand_in.prun):
        what = "nothing goes away" if not stand_in.no_local else "it fails"
        return f"{stand_in.prun} is gone, so {what}; pshadow on again"
    if not is_program(stand_in.program):
        return f"{stand_in.program} is gone; pshadow off"
    return ""

"""Find the real program of a name in PATH: skip stand-ins and compiler caches, which only pass calls on."""

import os
import re
import shutil
import stat
import sys
from pathlib import Path

from pconnect.shadow.stand_in import StandIn, read_stand_in
from srp_tools.errors import ConfigurationError

# Programs that take the place of compilers through links with the compilers' names, and search PATH for the next
# program of that name. They would find a stand-in that runs them again, without end.
_FORWARDERS = {"ccache", "distcc", "icecc", "sccache"}

_GCC = re.compile(r"(.+-)?(gcc|g\+\+)(-\d+(\.\d+)*)?_?")


def folders_of(path: str) -> list[str]:
    """Return the absolute folders of a search path, each once. Relative ones are left out: they are not shadowed."""
    return list(dict.fromkeys(folder for folder in path.split(":") if folder.startswith("/")))


def candidates(name: str, path: str) -> list[str]:
    """Return the absolute paths of all programs with a name, in the order of a search path."""
    found = (os.path.join(folder, name) for folder in folders_of(path))  # noqa: PTH118 - it need not be valid text
    return [each for each in found if is_program(each)]


def is_program(path: str) -> bool:
    """Return whether a path leads to an executable file."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode) and os.access(path, os.X_OK)
    except OSError:
        return False


def needs_own_folder(path: str) -> bool:
    """Return whether a program finds its files through the folder in ``argv[0]``, which a link elsewhere would change.

    Scripts do, and so does gcc with the option ``-no-canonical-prefixes``. gcc does not depend on the last part of
    ``argv[0]``. clang does, like other programs that have several names.
    """
    try:
        with Path(path).open("rb") as file:
            is_script = file.read(2) == b"#!"
    except OSError:
        is_script = False
    return is_script or _GCC.fullmatch(os.path.basename(os.path.realpath(path))) is not None  # noqa: PTH119


def forwarder_of(path: str) -> str:
    """Return the name of the compiler cache or distributor that a path links to, ``""`` if it links to none.

    Examples
    --------
    >>> forwarder_of("/bin/sh")
    ''
    """
    target = os.path.basename(os.path.realpath(path))  # noqa: PTH119
    return target if target in _FORWARDERS and os.path.basename(path) != target else ""  # noqa: PTH119


def _is_in_folder(path: str) -> bool:
    """Return whether a program is a stand-in in a folder of stand-ins. A stand-in in place counts as the program."""
    stand_in = read_stand_in(path)
    return stand_in is not None and not stand_in.in_place


def find_program(name: str, path: str) -> str:
    """Return the absolute path of the program with a name, as if there were no stand-ins.

    Raises `ConfigurationError` if there is no such program.
    """
    found = candidates(name, path)
    for each in found:
        if not forwarder_of(each) and not _is_in_folder(each):
            return each
    passed = f" except {', '.join(found)}, which only passes calls on to another program" if found else ""
    raise ConfigurationError(f"there is no program {name} in PATH{passed}; install it, or correct its name")


def first_found(name: str, path: str) -> str:
    """Return the path of the program that runs when a name is called, ``""`` if there is none.

    Compiler caches are skipped: they call the next program of the name.
    """
    return next((each for each in candidates(name, path) if not forwarder_of(each)), "")


def is_same(one: str, other: str) -> bool:
    """Return whether two paths lead to the same file or folder."""
    try:
        return os.path.samefile(one, other)  # noqa: PTH121
    except OSError:
        return False


def find_prun(given: str | None, path: str) -> str:
    """Return the absolute path of `prun`: the given one, the one of this installation, or the first one in PATH.

    Raises `ConfigurationError` if there is none.
    """
    here = os.path.join(os.path.dirname(sys.executable), "prun")  # noqa: PTH118, PTH120
    found = given if given is not None else here if is_program(here) else shutil.which("prun", path=path)
    if found is None or not is_program(found):
        place = "beside this Python or in PATH" if given is None else f"at {given}"
        raise ConfigurationError(f"there is no prun {place}; install it, or name it with --prun FILE")
    return os.path.realpath(found)


def what_is_wrong(stand_in: StandIn) -> str:
    """Return why a stand-in does not work, ``""`` if it works."""
    if not is_program(stand_in.prun):
        what = "everything runs here" if not stand_in.no_local else "calls fail"
        return f"{stand_in.prun} is gone, so {what}; run pshadow on again"
    if not is_program(stand_in.program):
        return f"{stand_in.program} is gone; run pshadow off"
    return ""

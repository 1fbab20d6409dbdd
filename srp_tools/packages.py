"""Shared by the three packages: their version, and safe imports.

Python looks for modules in the current folder first, and anyone who can write there can add a ``pandas.py``. That is
fine for the user's own imports. But the packages also import modules themselves, for example when a value arrives, and
a received value must not run code from that folder. So their imports, and the imports that these cause, ignore

* the current folder, under any name it has in `sys.path`, unless it contains these packages, and relative names;
* all entries added to `sys.path` after this module was loaded, by the user's code or on its behalf.

Modules that are already loaded are used, wherever they came from: their code has already run.
"""

import argparse
import contextlib
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# No `pathlib`: the daemon does not load it this early, and this runs within the imports below.
_HOME = os.path.realpath(f"{os.path.dirname(__file__)}/..")  # noqa: PTH120 - these packages


def _is_safe(entry: str) -> bool:
    """Whether a folder of `sys.path` is not the current folder, or is the folder of these packages."""
    if not os.path.isabs(entry):  # noqa: PTH117
        return False
    try:
        here = os.path.realpath(os.getcwd())  # noqa: PTH109
    except OSError:  # the folder was removed
        return True
    return here == _HOME or os.path.realpath(entry) != here


_trusted = frozenset(filter(_is_safe, sys.path))


#: Whether this thread is importing for the packages.
_is_own: ContextVar[bool] = ContextVar("own imports", default=False)


class _Finder(PathFinder):
    """Replacement for Python's own finder that restricts imports for the packages."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None and _is_own.get():
            path = safe_path()
        return super().find_spec(fullname, path, target)


def safe_path() -> list[str]:
    """Return the folders of `sys.path` from which the packages import."""
    return [entry for entry in sys.path if entry in _trusted and _is_safe(entry)]


@contextlib.contextmanager
def own_imports() -> Iterator[None]:
    """Mark imports of this thread as imports for the packages. For `import` statements inside functions."""
    before = _is_own.set(True)
    try:
        yield
    finally:
        _is_own.reset(before)


def import_own(name: str) -> Any:
    """Import a module for the packages."""
    with own_imports():
        return importlib.import_module(name)


def missing_packages(names: Sequence[str]) -> list[str]:
    """Return the packages that are not installed. Imports none of them.

    Examples
    --------
    >>> missing_packages(["json", "no_such_package"])
    ['no_such_package']
    """
    with own_imports():
        return [name for name in names if importlib.util.find_spec(name) is None]


# Replace only Python's own finder: a finder added by a test or a tool is there on purpose.
sys.meta_path[:] = [_Finder if finder is PathFinder else finder for finder in sys.meta_path]


@functools.cache
def distribution_version() -> str:
    """Return the installed version."""
    # Imported late, because this takes longer than everything else a command needs, and few commands need the version.
    version: str = import_own("importlib.metadata").version("pserver")
    return version


def module_attribute(module: str, name: str) -> str:
    """Act as ``__getattr__`` of a package that has `__version__`, see PEP 562.

    Raises `AttributeError` for any other name.
    """
    if name != "__version__":
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return distribution_version()


class ShowVersion(argparse.Action):
    """The option ``--version`` of a command: print its name and version, and exit."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(
            option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="show the version and exit"
        )

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the version."""
        sys.stdout.write(f"{parser.prog} {distribution_version()}\n")
        parser.exit()

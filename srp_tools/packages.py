"""What the three packages have in common: their version, and how they import for themselves.

Python looks first into the folder of the user's work, where whoever may write can put a ``pandas.py``. For what the
user imports that is as it should be. But the packages import on their own account too, as when a value arrives, and
a received value must not run code that lies there. So these imports, and those that they cause, leave out

* the current folder, under whatever name it stands in `sys.path`, unless these packages are there, and names that are
  relative to it;
* what was put into `sys.path` after this module was loaded: by the user's code, or for it.

What is loaded already is used, wherever it came from: its code has run.
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

# Without `pathlib`, which the daemon does not load so early, and which runs within imports below.
_HOME = os.path.realpath(f"{os.path.dirname(__file__)}/..")  # noqa: PTH120 - these packages


def _is_safe(entry: str) -> bool:
    """Whether a folder of `sys.path` is not the current one, or is that of these packages."""
    if not os.path.isabs(entry):  # noqa: PTH117
        return False
    try:
        here = os.path.realpath(os.getcwd())  # noqa: PTH109
    except OSError:  # it was removed
        return True
    return here == _HOME or os.path.realpath(entry) != here


_trusted = frozenset(filter(_is_safe, sys.path))


#: Whether this thread imports for the packages.
_is_own: ContextVar[bool] = ContextVar("own imports", default=False)


class _Finder(PathFinder):
    """In the place of Python's own finder: the same, but for imports of the libraries."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None and _is_own.get():
            path = safe_path()
        return super().find_spec(fullname, path, target)


def safe_path() -> list[str]:
    """Return the folders of `sys.path` from which the libraries import."""
    return [entry for entry in sys.path if entry in _trusted and _is_safe(entry)]


@contextlib.contextmanager
def own_imports() -> Iterator[None]:
    """Have imports of this thread be those of the libraries; for `import` statements inside functions."""
    before = _is_own.set(True)
    try:
        yield
    finally:
        _is_own.reset(before)


def import_own(name: str) -> Any:
    """Import a module for the libraries."""
    with own_imports():
        return importlib.import_module(name)


def missing_packages(names: Sequence[str]) -> list[str]:
    """Return those packages that are not installed; none of them is imported.

    Examples
    --------
    >>> missing_packages(["json", "no_such_package"])
    ['no_such_package']
    """
    with own_imports():
        return [name for name in names if importlib.util.find_spec(name) is None]


# Only Python's own is replaced: what a test or a tool has put there knows what it does.
sys.meta_path[:] = [_Finder if finder is PathFinder else finder for finder in sys.meta_path]


@functools.cache
def distribution_version() -> str:
    """Return the version that is installed."""
    # Late: importing it takes longer than all else that a command needs, and few ask for the version.
    version: str = import_own("importlib.metadata").version("pserver")
    return version


def module_attribute(module: str, name: str) -> str:
    """Be the ``__getattr__`` of a package that has `__version__`, see PEP 562.

    Raises `AttributeError` if another name is asked for.
    """
    if name != "__version__":
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return distribution_version()


class ShowVersion(argparse.Action):
    """The option ``--version`` of a command: prints its name and the version, and ends it."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(
            option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="show the version and exit"
        )

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the version."""
        sys.stdout.write(f"{parser.prog} {distribution_version()}\n")
        parser.exit()

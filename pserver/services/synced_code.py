"""The client's own modules in an engine: kept in the session's folder, first on the path of imports.

What the client sends with `pconnect.files.code_sync` is a *tree*: the files below one folder. `begin` makes ready for a
new state of it, the files come by `SessionFiles.put`, and `apply` lets modules be imported from there. Every state gets
a folder of its own, which is renamed to its place when it is whole. So an import in another thread, or in a process
that the engine has forked, finds all of the old state or all of the new, and no compiled file of a former state can be
taken for a new one, whatever the times of the files say.

A new state begins with links to the files of the state before, so that only what differs has to come. The folder of the
state before stays until the next change, for what still runs in its modules.
"""

import contextlib
import importlib
import os
import shutil
import sys
import types
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pconnect.errors import UnreadableValueError
from pconnect.files.listing import Listing
from pconnect.files.partial_file import part_of
from pserver.services.files import SessionFiles
from srp_tools.errors import ConfigurationError


@dataclass
class _Tree:
    """One tree as it lies here: its folder and files, the folder of the state before, and that of the next one."""

    unfinished: Path
    folder: Path | None = None
    before: Path | None = None
    names: set[str] = field(default_factory=set)
    next_names: set[str] = field(default_factory=set)


class SyncedCode:
    """All trees of one engine.

    `files`: those of the session, by which code comes. What an engine before left of its trees is removed. `in_use`:
    names of modules that no tree may hide, because the engine has loaded them for itself.
    """

    def __init__(self, files: SessionFiles, in_use: Iterable[str]) -> None:
        self.files = files
        self._home = files.session_folder / "code"
        for folder in (self._home, self._unfinished):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        self._in_use = {name.partition(".")[0] for name in in_use}
        self._trees: dict[str, _Tree] = {}
        self._begun: _Tree | None = None
        self._made = 0

    @property
    def _unfinished(self) -> Path:
        return self.files.session_folder / "unfinished_code"

    def begin(self, token: bytes, key: str, packed: Any) -> list[Any]:
        """Make ready for a state of a tree.

        `packed`: the listing of its files. Returns what is there already, for the client to send the rest; see
        `Incoming.offers`. Raises `ConfigurationError` or `UnreadableValueError` if a name leads out of the folder, or
        is that of a module which the engine itself needs. Nothing was changed. Raises `OSError` if the files cannot be
        written. Nothing was changed.
        """
        listing = Listing.unpack(packed)
        names = {facts.name for facts in listing.files}
        self._check(names, is_folder=listing.is_folder)
        self.files.end()
        tree = self._trees.setdefault(key, _Tree(self._unfinished / str(len(self._trees))))
        if tree.folder is not None and not tree.unfinished.exists():
            shutil.copytree(tree.folder, tree.unfinished, copy_function=_link)
        tree.unfinished.mkdir(mode=0o700, exist_ok=True)
        places = [tree.unfinished / name for name in names]
        _prune(tree.unfinished, {*places, *map(part_of, places)})
        offers = self.files.receive(token, tree.unfinished, listing, is_durable=False)
        self._begun, tree.next_names = tree, names
        return offers

    def apply(self, token: bytes) -> list[str]:
        """Let modules be imported from what has come since `begin`.

        Returns the names of the files that are new, different, or gone. Raises `FileNotFoundError` if something did not
        arrive. Nothing was changed. Raises `ConfigurationError` if another transfer has begun since. Nothing was
        changed.
        """
        self.files.finish(token)
        tree = self._begun
        assert tree is not None  # noqa: S101 - the token is of one that has begun
        names, old = tree.next_names, tree.folder
        changed = {name for name in names if not (old and _have_same(tree.unfinished / name, old / name))} | (
            tree.names - names
        )
        if changed:
            self._replace(tree)
        else:
            shutil.rmtree(tree.unfinished)
        assert tree.folder is not None  # noqa: S101 - a tree without files was refused
        _put_first(tree.folder, tree.before)
        _forget_modules({_top_module(name) for name in names} - {""}, tree.folder, tree.before)
        return sorted(changed)

    def _check(self, names: Collection[str], *, is_folder: bool) -> None:
        if not is_folder or not names:
            raise ConfigurationError("code comes as a folder with at least one file")
        for name in names:
            if "\\" in name:
                raise UnreadableValueError(f"{name!r} is not the name of a file inside a folder")
            module = _top_module(name)
            if module in self._in_use:
                raise ConfigurationError(
                    f"{name!r} would hide the module {module!r}, which the engine itself has loaded: rename it"
                )

    def _replace(self, tree: _Tree) -> None:
        """Let the unfinished state of a tree be the one that is imported from."""
        _prune(tree.unfinished, {tree.unfinished / name for name in tree.next_names})
        self._made += 1
        folder, obsolete = tree.unfinished.rename(self._home / str(self._made)), tree.before
        tree.folder, tree.before, tree.names = folder, tree.folder, tree.next_names
        if obsolete is not None:
            shutil.rmtree(obsolete, ignore_errors=True)  # the session's end removes what is left


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)  # what is written to one of both is in both, and found by its hash
    except OSError:  # not on this file system
        shutil.copyfile(source, target)


def _have_same(path: Path, other: Path) -> bool:
    """Return whether two files have the same contents; the second may be gone."""
    try:
        return path.samefile(other) or path.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _prune(folder: Path, wanted: Collection[Path]) -> None:
    """Remove all other files below a folder, and the folders that have none."""
    for place, folders, files in os.walk(folder, topdown=False):
        for name in files:
            if Path(place, name) not in wanted:
                Path(place, name).unlink()
        for name in folders:
            with contextlib.suppress(OSError):  # something is in it
                Path(place, name).rmdir()


def _top_module(name: str) -> str:
    """Return the name under which a file, or the package that it is the beginning of, is imported at the top level.

    Examples
    --------
    >>> _top_module("waves.py"), _top_module("ocean/__init__.py"), _top_module("ocean/deep/__init__.py")
    ('waves', 'ocean', '')
    """
    first, _, rest = name.partition("/")
    if rest:
        return first if rest == "__init__.py" else ""
    module, dot, ending = first.partition(".")
    # The workspace is `__main__`, and stays so whatever a folder has.
    return module if dot and ending.rpartition(".")[2] in {"py", "so"} and module != "__main__" else ""


def _put_first(folder: Path, before: Path | None) -> None:
    """Let imports look into a folder first, and no more into the one before."""
    others = [entry for entry in sys.path if entry not in {str(folder), str(before)}]
    sys.path[:] = [str(folder), *others]  # at once, for other threads
    sys.path_importer_cache.pop(str(before), None)
    importlib.invalidate_caches()


def _forget_modules(names: set[str], folder: Path, before: Path | None) -> None:
    """Have the next import read modules anew: those of the state before, and those that came from anywhere else."""
    stale = {name for name in names if not _is_from(sys.modules.get(name), folder)}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in stale or (before is not None and _is_from(module, before)):
            del sys.modules[name]
            parent, _, child = name.rpartition(".")
            # `from parent import child` would find it there, if the parent stays.
            if parent in sys.modules:
                with contextlib.suppress(AttributeError):
                    delattr(sys.modules[parent], child)


def _is_from(module: object, folder: Path) -> bool:
    """Return whether a module was loaded from below a folder."""
    if not issubclass(type(module), types.ModuleType):  # not `isinstance`, which believes what an object says
        return False
    names = object.__getattribute__(module, "__dict__")  # a module may have a `__getattr__` that loads others
    places = [names.get("__file__"), *(names.get("__path__") or ())]
    return any(isinstance(place, str) and place.startswith(f"{folder}{os.sep}") for place in places)

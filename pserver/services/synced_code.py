"""The client's own modules in an engine: kept in the session's folder, which comes first on the import path.

The client sends a *tree* with `pconnect.files.code_sync`: the files below one folder. `begin` prepares for a new state
of the tree, the files arrive through `SessionFiles.put`, and `apply` makes the modules importable. Every state gets its
own folder, which is renamed into place once it is complete. So an import in another thread, or in a process forked from
the engine, finds either all of the old state or all of the new one. A compiled file of an earlier state is never
mistaken for a new one, whatever the file times are.

A new state begins with links to the files of the previous state, so only files that differ are transferred. The folder
of the previous state stays until the next change, for code from it that is still running.
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
    """One tree on this node: its folder and file names, the folder of the previous state, and that of the next one."""

    unfinished: Path
    folder: Path | None = None
    before: Path | None = None
    names: set[str] = field(default_factory=set)
    next_names: set[str] = field(default_factory=set)


class SyncedCode:
    """All trees of one engine.

    `files`: the session's files, through which code arrives. Trees left by an earlier engine are removed. `in_use`:
    modules that no tree may hide, because the engine has loaded them for its own use.
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
        """Prepare for a new state of a tree.

        `packed`: the listing of its files. Returns the list of files that exist already, so the client sends only the
        rest; see `Incoming.offers`. Raises `ConfigurationError` or `UnreadableValueError` if a name leads out of the
        folder or is that of a module that the engine itself needs. Raises `OSError` if the files cannot be written.
        After an error, nothing is changed.
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
        """Make the modules importable that have arrived since `begin`.

        Returns the names of the files that are new, changed, or removed. Raises `FileNotFoundError` if a file did not
        arrive, and `ConfigurationError` if another transfer has begun since. After an error, nothing is changed.
        """
        self.files.finish(token)
        tree = self._begun
        assert tree is not None  # noqa: S101 - the token belongs to a tree that has begun
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
            raise ConfigurationError("code must be a folder with at least one file")
        for name in names:
            if "\\" in name:
                raise UnreadableValueError(f"{name!r} is not the name of a file inside a folder")
            module = _top_module(name)
            if module in self._in_use:
                raise ConfigurationError(
                    f"{name!r} would hide the module {module!r}, which the engine itself has loaded: rename it"
                )

    def _replace(self, tree: _Tree) -> None:
        """Make the unfinished state of a tree the current one, from which modules are imported."""
        _prune(tree.unfinished, {tree.unfinished / name for name in tree.next_names})
        self._made += 1
        folder, obsolete = tree.unfinished.rename(self._home / str(self._made)), tree.before
        tree.folder, tree.before, tree.names = folder, tree.folder, tree.next_names
        if obsolete is not None:
            shutil.rmtree(obsolete, ignore_errors=True)  # the end of the session removes the rest


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)  # writing to one of them changes both, which the hash reveals
    except OSError:  # this file system has no hard links
        shutil.copyfile(source, target)


def _have_same(path: Path, other: Path) -> bool:
    """Return whether two files have the same contents; the second may be missing."""
    try:
        return path.samefile(other) or path.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _prune(folder: Path, wanted: Collection[Path]) -> None:
    """Remove all other files below a folder, and the folders that are then empty."""
    for place, folders, files in os.walk(folder, topdown=False):
        for name in files:
            if Path(place, name) not in wanted:
                Path(place, name).unlink()
        for name in folders:
            with contextlib.suppress(OSError):  # the folder is not empty
                Path(place, name).rmdir()


def _top_module(name: str) -> str:
    """Return the top-level module name of a file, or of the package whose ``__init__`` it is; "" if it has none.

    Examples
    --------
    >>> _top_module("waves.py"), _top_module("ocean/__init__.py"), _top_module("ocean/deep/__init__.py")
    ('waves', 'ocean', '')
    """
    first, _, rest = name.partition("/")
    if rest:
        return first if rest == "__init__.py" else ""
    module, dot, ending = first.partition(".")
    # The workspace is `__main__`, and stays so whatever files a folder has.
    return module if dot and ending.rpartition(".")[2] in {"py", "so"} and module != "__main__" else ""


def _put_first(folder: Path, before: Path | None) -> None:
    """Let imports search a folder first, and no longer the previous one."""
    others = [entry for entry in sys.path if entry not in {str(folder), str(before)}]
    sys.path[:] = [str(folder), *others]  # in one step, for other threads
    sys.path_importer_cache.pop(str(before), None)
    importlib.invalidate_caches()


def _forget_modules(names: set[str], folder: Path, before: Path | None) -> None:
    """Make the next import reload modules of the previous state, and those that came from elsewhere."""
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
    if not issubclass(type(module), types.ModuleType):  # `isinstance` would trust its `__class__`
        return False
    names = object.__getattribute__(module, "__dict__")  # a module may have a `__getattr__` that loads others
    places = [names.get("__file__"), *(names.get("__path__") or ())]
    return any(isinstance(place, str) and place.startswith(f"{folder}{os.sep}") for place in places)

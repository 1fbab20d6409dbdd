"""The client's own modules at an engine: kept in the session's folder, first on the path of imports.

What the client sends with `pconnect.files.code_sync` is a *tree*: the names of files below one folder, and the SHA-256
of each. Every state of a tree gets a folder of its own, which is made under another name and renamed when it is whole.
So an import in another thread, or in a process that the engine has forked, finds all of the old state or all of the
new, and no compiled file of a former state can be taken for a new one, whatever the times of the files say.

Files of the state before are linked, only the others come from the client; one that was changed here since it was
written counts as lost. The folder of the state before stays until the next change, for what still runs in its modules.
"""

import contextlib
import hashlib
import importlib
import os
import shutil
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pconnect.files.listing import is_inner_name
from srp_tools.errors import ConfigurationError

_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class _Kept:
    """A file as it was written: its digest, and what tells that nobody has written to it since."""

    digest: bytes
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path, digest: bytes) -> "_Kept":
        facts = path.stat()
        return cls(digest, facts.st_size, facts.st_mtime_ns)


@dataclass
class _Tree:
    """One tree as it lies here; `before` is the folder of its last state."""

    folder: Path | None = None
    before: Path | None = None
    files: dict[str, _Kept] = field(default_factory=dict)


class SyncedCode:
    """All trees of one engine.

    Parameters
    ----------
    session_folder
        The private folder of the session, below which the trees lie. What an engine before left there is removed.
    in_use
        Names of modules that no tree may hide, because the engine has loaded them for itself.
    """

    def __init__(self, session_folder: Path, in_use: Iterable[str]) -> None:
        self._home = session_folder / "code"
        if self._home.exists():
            shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(mode=0o700, exist_ok=True)
        self._in_use = {name.partition(".")[0] for name in in_use}
        self._trees: dict[str, _Tree] = {}
        self._made = 0

    def apply(
        self, key: str, files: Mapping[str, bytes], contents: Sequence[bytes] | None
    ) -> tuple[list[bytes], list[str]]:
        """Let a tree be what the client has, if nothing is lacking for that.

        Parameters
        ----------
        key
            Which tree.
        files
            The digest of each file by its name, which is relative and has ``/`` between its parts.
        contents
            Contents of files that were lacking; ``None`` in the first call.

        Returns
        -------
        missing
            Digests of contents that are lacking; then nothing was changed.
        changed
            Names of the files that are new, different, or gone.

        Raises
        ------
        ConfigurationError
            A name leads out of the folder, or is that of a module which the engine itself needs. Nothing was changed.
        FileNotFoundError
            `contents` was given, and something is lacking still. Nothing was changed.
        OSError
            The files cannot be written. Nothing was changed.
        """
        names = _check(files)
        self._check_hidden(files)
        tree = self._trees.setdefault(key, _Tree())
        changed = sorted(_changed(tree, files))
        if changed:
            given = {hashlib.sha256(content).digest(): content for content in contents or ()}
            here = self._untouched(set(files.values()) - given.keys())
            missing = sorted(set(files.values()) - given.keys() - here.keys())
            if missing and contents is not None:
                raise FileNotFoundError(f"{len(missing)} files that this engine needs did not arrive")
            if missing:
                return missing, []
            self._replace(tree, files, given, here)
        assert tree.folder is not None  # noqa: S101 - a tree without files was refused
        _put_first(tree.folder, tree.before)
        _forget_modules(names, tree.folder, tree.before)
        return [], changed

    def _check_hidden(self, files: Mapping[str, bytes]) -> None:
        for name in files:
            module = _top_module(name)
            if module in self._in_use:
                raise ConfigurationError(
                    f"{name!r} would hide the module {module!r}, which the engine itself has loaded: rename it"
                )

    def _untouched(self, wanted: set[bytes]) -> dict[bytes, Path]:
        """Return where wanted contents are, in files that are as they were written."""
        found: dict[bytes, Path] = {}
        for tree in self._trees.values():
            for name, kept in tree.files.items():
                if kept.digest in wanted and tree.folder and _is_untouched(tree.folder / name, kept):
                    found[kept.digest] = tree.folder / name
        return found

    def _replace(
        self,
        tree: _Tree,
        files: Mapping[str, bytes],
        given: Mapping[bytes, bytes],
        here: Mapping[bytes, Path],
    ) -> None:
        """Write a new state of a tree beside the old one."""
        self._made += 1
        folder, unfinished = self._home / str(self._made), self._home / f"{self._made}.unfinished"
        try:
            kept = {name: _write(unfinished / name, digest, given, here) for name, digest in files.items()}
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        obsolete = tree.before
        tree.folder, tree.before, tree.files = folder, tree.folder, kept
        if obsolete is not None:
            shutil.rmtree(obsolete, ignore_errors=True)  # the session's end removes what is left


def _check(files: Mapping[str, bytes]) -> set[str]:
    """Refuse names that lead anywhere else; return those of the modules at the top."""
    if not isinstance(files, dict) or not files:
        raise ConfigurationError("code comes as a dict of digests by name, of at least one file")
    for name, digest in files.items():
        if not isinstance(digest, bytes) or len(digest) != _DIGEST_BYTES:
            raise ConfigurationError(f"what stands beside {name!r} is no SHA-256")
        if not isinstance(name, str) or "\\" in name or not is_inner_name(name):
            raise ConfigurationError(f"{name!r} is not the name of a file inside a folder")
    return {module for name in files if (module := _top_module(name))}


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


def _changed(tree: _Tree, files: Mapping[str, bytes]) -> set[str]:
    """Return the names of files that are not, or no longer, as the client has them."""
    right = {
        name
        for name, kept in tree.files.items()
        if files.get(name) == kept.digest and tree.folder and _is_untouched(tree.folder / name, kept)
    }
    return (files.keys() | tree.files.keys()) - right


def _is_untouched(path: Path, kept: _Kept) -> bool:
    try:
        return _Kept.of(path, kept.digest) == kept
    except OSError:
        return False


def _write(path: Path, digest: bytes, given: Mapping[bytes, bytes], here: Mapping[bytes, Path]) -> _Kept:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if digest in given:
        path.write_bytes(given[digest])
    else:
        try:
            path.hardlink_to(here[digest])  # if one of both is written to, both count as lost
        except OSError:  # not on this file system
            shutil.copyfile(here[digest], path)
    return _Kept.of(path, digest)


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

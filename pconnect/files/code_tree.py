"""A package, a folder of modules, or one module of the client, as it is sent to engines: names, digests, contents."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pconnect.errors import ConfigurationError

DEFAULT_MAX_FILES = 2000
DEFAULT_MAX_BYTES = 64 * 2**20

_LEFT_OUT_ENDINGS = (".pyc", ".pyo", "~", ".swp", ".swo")
_SHOWN = 3  # of the largest files, in an error


@dataclass(frozen=True)
class CodeTree:
    """What a path had when it was read.

    Attributes
    ----------
    key
        What stands for this tree at engines: a later one with the same key takes its place.
    files
        The SHA-256 of each file by its name, which has ``/`` between its parts on every platform.
    contents
        By digest.
    """

    key: str
    files: dict[str, bytes]
    contents: dict[bytes, bytes]


def read_tree(
    path: str | os.PathLike[str],
    *,
    max_files: int = DEFAULT_MAX_FILES,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> CodeTree:
    """Read a package folder, a folder of modules, or a single ``.py`` file.

    Raises
    ------
    ConfigurationError
        It is none of these, cannot be imported by its name, or is beyond a limit; the text names what is largest.
    OSError
        A file cannot be read, or was removed meanwhile.
    """
    given = Path(os.path.abspath(path))  # noqa: PTH100 - the name is that of a link, not of what it leads to
    real = given.resolve()
    if real.is_file():
        _check_module_name(given.stem, given)
        if given.suffix != ".py":
            raise ConfigurationError(f"{given} is no Python module: its name does not end in .py")
        key, found = f"module {given.stem}", [(given.name, real)]
    elif (real / "__init__.py").is_file():
        _check_module_name(given.name, given)
        key, found = f"module {given.name}", _find(real, f"{given.name}/", max_files)
    elif real.is_dir():
        key, found = f"folder {given}", _find(real, "", max_files)
    else:
        raise ConfigurationError(
            f"{given} does not exist: give a package, a folder of modules, or a .py file"
        )
    if not any(name.endswith(".py") for name, _ in found):
        raise ConfigurationError(f"there is no Python module in {given}")
    sizes = {name: file.stat().st_size for name, file in found}
    _check_size(sizes, max_bytes)  # before all of it is read
    files, contents = {}, {}
    for name, file in found:
        with file.open("rb") as stream:
            content = stream.read(max_bytes + 1)
        sizes[name] = len(content)  # it may have grown
        _check_size(sizes, max_bytes)
        files[name] = digest = hashlib.sha256(content).digest()
        contents[digest] = content
    return CodeTree(key, files, contents)


def _check_module_name(name: str, path: Path) -> None:
    if not name.isidentifier():
        raise ConfigurationError(f"{path} cannot be imported: {name!r} is no name of a module")


def _find(root: Path, prefix: str, max_files: int) -> list[tuple[str, Path]]:
    """Return names and paths of the files below a folder that are to be sent."""
    found: list[tuple[str, Path]] = []
    for path in _walk(root, root):
        name = prefix + path.relative_to(root).as_posix()
        if "\\" in name:
            raise ConfigurationError(f"{path} cannot be sent: a name with a backslash is none everywhere")
        found.append((name, path))
        if len(found) > max_files:
            (folder, number), *_ = Counter(name.rpartition("/")[0] for name, _ in found).most_common(1)
            raise ConfigurationError(
                f"{root} has more than max_files={max_files} files; among the first are {number} of the folder "
                f"{folder or root.name!r}: name a smaller folder, or allow more"
            )
    return found


def _walk(folder: Path, root: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        chosen = sorted((entry for entry in entries if not _is_left_out(entry.name)), key=lambda e: e.name)
    if "pyvenv.cfg" in (entry.name for entry in chosen) and folder != root:
        return  # a virtual environment
    for entry in chosen:
        path = Path(entry.path)
        if entry.is_symlink():
            # A link to a file of the tree counts as that file. Others would lead out of it, or round in circles.
            target = path.resolve()
            if target.is_relative_to(root) and target.is_file():
                yield path
        elif entry.is_dir():
            yield from _walk(path, root)
        elif stat.S_ISREG(entry.stat().st_mode):  # to open a pipe would wait for its other end
            yield path


def _is_left_out(name: str) -> bool:
    """Return whether a file or folder is hidden, made by Python, or left by an editor.

    Examples
    --------
    >>> [_is_left_out(name) for name in (".git", "__pycache__", "waves.py~", "#waves.py#", "waves.py")]
    [True, True, True, True, False]
    """
    return (
        name.startswith(".")
        or name == "__pycache__"
        or name.endswith(_LEFT_OUT_ENDINGS)
        or (name.startswith("#") and name.endswith("#"))
    )


def _check_size(sizes: dict[str, int], max_bytes: int) -> None:
    total = sum(sizes.values())
    if total <= max_bytes:
        return
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_SHOWN]
    shown = ", ".join(f"{name} ({sizes[name] / 2**20:.1f} MiB)" for name in largest)
    raise ConfigurationError(
        f"these are {total / 2**20:.1f} MiB of code and data, more than max_bytes={max_bytes} allows; "
        f"the largest: {shown}"
    )

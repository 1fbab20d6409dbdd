"""Which files of a package, of a folder of modules, or of one module are sent to engines, and under which names."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pconnect.errors import ConfigurationError
from pconnect.files.listing import FileFacts, Listing, facts_of, walk

DEFAULT_MAX_FILES = 2000
DEFAULT_MAX_BYTES = 64 * 2**20

_LEFT_OUT_ENDINGS = (".pyc", ".pyo", "~", ".swp", ".swo")
_NAMED_FILES = 3  # of the largest, in an error
_MODE = 0o600  # permissions do not belong to code


class CodeListing(NamedTuple):
    """What of a path is sent."""

    key: str  #: what stands for this tree on engines: a later one with the same key takes its place
    root: Path  #: the folder to which the names are relative
    listing: Listing  #: the files; folders without files are not sent


def list_code(
    path: str | os.PathLike[str], *, max_files: int = DEFAULT_MAX_FILES, max_bytes: int = DEFAULT_MAX_BYTES
) -> CodeListing:
    """List a package folder, a folder of modules, or a single ``.py`` file.

    Raises `ConfigurationError` if it is not one of these, cannot be imported by its name, or is beyond a limit; the
    text names what is largest. Raises `OSError` if a file may not be read, or was removed meanwhile.
    """
    given = Path(os.path.abspath(path))  # noqa: PTH100 - the name is that of a link, not of what it leads to
    if given.is_file():
        _check_module_name(given.stem, given)
        if given.suffix != ".py":
            raise ConfigurationError(f"{given} is no Python module: its name does not end in .py")
        key, root, files = f"module {given.stem}", given.parent, [facts_of(given, given.name)]
    elif (given / "__init__.py").is_file():
        _check_module_name(given.name, given)
        key, root = f"module {given.name}", given.parent
        files = _find(given, f"{given.name}/", max_files)
    elif given.is_dir():
        key, root, files = f"folder {given}", given, _find(given, "", max_files)
    else:
        raise ConfigurationError(
            f"{given} does not exist: give a package, a folder of modules, or a .py file"
        )
    if not any(facts.name.endswith(".py") for facts in files):
        raise ConfigurationError(f"there is no Python module in {given}")
    _check_size(files, max_bytes)
    return CodeListing(key, root, Listing(True, [], [facts._replace(mode=_MODE) for facts in files]))


def _check_module_name(name: str, path: Path) -> None:
    if not name.isidentifier():
        raise ConfigurationError(f"{path} cannot be imported: {name!r} is no name of a module")


def _find(folder: Path, prefix: str, max_files: int) -> list[FileFacts]:
    """Return the files below a folder that are to be sent."""
    found: list[FileFacts] = []
    for name, path, is_folder in walk(folder, _leaving_out(folder.resolve())):
        if is_folder:
            continue
        if "\\" in name:
            raise ConfigurationError(f"{path} cannot be sent: some systems cannot have a backslash in a name")
        found.append(facts_of(path, prefix + name))
        if len(found) > max_files:
            (fullest, number), *_ = Counter(facts.name.rpartition("/")[0] for facts in found).most_common(1)
            raise ConfigurationError(
                f"{folder} has more than max_files={max_files} files; among the first are {number} of the folder "
                f"{fullest or folder.name!r}: name a smaller folder, or allow more"
            )
    return found


def _leaving_out(root: Path) -> Callable[["os.DirEntry[str]"], bool]:
    """Return what tells whether something below a folder is not code, or cannot be sent."""

    def leaves_out(entry: "os.DirEntry[str]") -> bool:
        if _is_left_over(entry.name):
            return True
        if entry.is_symlink():
            # A link to a file of the tree counts as that file. Others would lead out of it, or round in circles.
            target = Path(os.path.realpath(entry.path))
            return not (target.is_relative_to(root) and target.is_file())
        if entry.is_dir():
            return Path(entry.path, "pyvenv.cfg").exists()  # a virtual environment
        return not entry.is_file()  # to open a pipe would wait for its other end

    return leaves_out


def _is_left_over(name: str) -> bool:
    """Return whether a file or folder is hidden, made by Python, or left by an editor.

    Examples
    --------
    >>> [_is_left_over(name) for name in (".git", "__pycache__", "waves.py~", "#waves.py#", "waves.py")]
    [True, True, True, True, False]
    """
    return (
        name.startswith(".")
        or name == "__pycache__"
        or name.endswith(_LEFT_OUT_ENDINGS)
        or (name.startswith("#") and name.endswith("#"))
    )


def _check_size(files: list[FileFacts], max_bytes: int) -> None:
    total = sum(facts.size for facts in files)
    if total <= max_bytes:
        return
    largest = sorted(files, key=lambda facts: -facts.size)[:_NAMED_FILES]
    shown = ", ".join(f"{facts.name} ({facts.size / 2**20:.1f} MiB)" for facts in largest)
    raise ConfigurationError(
        f"these are {total / 2**20:.1f} MiB of code and data, more than max_bytes={max_bytes} allows; "
        f"the largest: {shown}"
    )

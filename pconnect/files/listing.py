"""Listings of files and folders, and the check of names that come from a peer.

A peer's listing says where this side writes, so nothing in it is believed: a name is relative, stays in its folder, and
stands there once. Names travel as bytes, because a file system has names that are no text.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pconnect.errors import ConfigurationError, UnreadableValueError

#: How the file is called in which a transfer collects what has come; such files are never sent.
PART_ENDING = ".pconnect.part"
# A listing is one message, and is held by both sides.
MAX_ENTRIES = 200_000
# Python's own functions for folders, such as those that remove them, nest their calls as deep.
MAX_DEPTH = 200


class FileFacts(NamedTuple):
    """One file; its name has ``/`` between its parts, and is empty for a file that is sent by itself."""

    name: str
    size: int
    mode: int
    mtime_ns: int


@dataclass(frozen=True)
class Listing:
    """A file, or a folder with all that is below it."""

    is_folder: bool
    folders: list[str] = field(default_factory=list)
    files: list[FileFacts] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(facts.size for facts in self.files)

    def pack(self) -> list[Any]:
        """Return what is sent."""
        folders = [encode_name(name) for name in self.folders]
        return [self.is_folder, folders, [[encode_name(facts.name), *facts[1:]] for facts in self.files]]

    @classmethod
    def unpack(cls, packed: Any) -> "Listing":
        """Return the listing that a peer has sent.

        Raises `UnreadableValueError` if it is no listing, or a name in it leads out of the folder.
        """
        match packed:
            case [bool() as is_folder, list() as folders, list() as files]:
                pass
            case _:
                raise UnreadableValueError("what arrived is no list of files")
        if len(folders) + len(files) > MAX_ENTRIES:
            raise UnreadableValueError(f"what arrived is a list of more than {MAX_ENTRIES} files")
        listing = cls(
            is_folder, [_read_name(name) for name in folders], [_read_facts(facts) for facts in files]
        )
        names = [*listing.folders, *(facts.name for facts in listing.files)]
        if not is_folder and names != [""]:
            raise UnreadableValueError("what arrived is neither one file nor a folder")
        for name in names if is_folder else ():
            if not is_inner_name(name) or name.count("/") >= MAX_DEPTH:
                raise UnreadableValueError(f"{name!r} is not the name of a file inside a folder")
        if len(set(names)) < len(names):
            raise UnreadableValueError("what arrived lists a name twice")
        return listing


def encode_name(name: str) -> bytes:
    """Return a name as it is sent."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(data: bytes) -> str:
    """Return a name that was sent."""
    return data.decode("utf-8", "surrogateescape")


def is_inner_name(name: str) -> bool:
    r"""Return whether a relative name, with ``/`` between its parts, stays inside its folder on this system.

    Examples
    --------
    >>> [is_inner_name(name) for name in ("a/b", "a b\n", "...", "", "/a", "a//b", "a/../b", "./a", "a\0")]
    [True, True, True, False, False, False, False, False, False]
    """
    strange = "\0" if os.sep == "/" else '\0\\:*?"<>|'
    return not any(part in {"", ".", ".."} or set(part) & set(strange) for part in name.split("/"))


def list_tree(path: Path) -> Listing:
    """List a file, or a folder with all that is below it.

    Links count as what they lead to; a folder is entered by a link only if it is inside `path`, and not one of those
    that contain the link. Parts of unfinished transfers are left out.

    Raises `ConfigurationError` if something there is neither a file nor a folder, or a link to a folder that is not
    entered; or there are too many files. The text names it. Raises `OSError` if something there cannot be read, or does
    not exist.
    """
    facts = path.stat()
    if stat.S_ISDIR(facts.st_mode):
        listing = Listing(True)
        for name, below, is_folder in walk(path):
            if is_folder:
                listing.folders.append(name)
            else:
                listing.files.append(facts_of(below, name))
            if len(listing.folders) + len(listing.files) > MAX_ENTRIES:
                raise ConfigurationError(f"{path} has more than {MAX_ENTRIES} files: send an archive of them")
        return listing
    if path.name.endswith(PART_ENDING):
        raise ConfigurationError(f"{path} is what a transfer that was broken off has left: it is not sent")
    return Listing(False, [], [facts_of(path, "")])


def check_sizes(listing: Listing, path: Path, limit: int) -> None:
    """Refuse files that are larger than a server allows.

    Raises `ConfigurationError`, whose text names the first, its size, and the limit.
    """
    large = [facts for facts in listing.files if facts.size > limit] if limit else []
    if large:
        name, size = path / large[0].name, large[0].size
        others = f" (and {len(large) - 1} more)" if len(large) > 1 else ""
        raise ConfigurationError(
            f"{name}{others} has {size} bytes, and this server's limit for a file is {limit} bytes (--max-file-size): "
            "nothing was sent"
        )


def walk(
    root: Path, leaves_out: Callable[["os.DirEntry[str]"], bool] = lambda _: False
) -> Iterator[tuple[str, Path, bool]]:
    """Give name, path and whether it is a folder, of all that is below a folder, but for what is left out.

    Raises `ConfigurationError` or `OSError` as by `list_tree`.
    """
    inside = root.resolve()
    # With the folders that contain each, by what tells them apart; there may be more than Python can nest calls.
    waiting: list[tuple[Path, str, tuple[tuple[int, int], ...]]] = [(root, "", (_identity(root),))]
    while waiting:
        folder, prefix, containing = waiting.pop()
        with os.scandir(folder) as found:
            entries = sorted(
                (entry for entry in found if not leaves_out(entry)), key=lambda entry: entry.name
            )
        for entry in entries:
            path, name = Path(entry.path), prefix + entry.name
            if entry.is_dir():
                own = _identity(path)
                if entry.is_symlink():
                    _check_link(path, inside, is_loop=own in containing)
                if len(containing) > MAX_DEPTH:
                    raise ConfigurationError(
                        f"{root} has folders in folders that are {len(containing)} deep: {path}"
                    )
                yield name, path, True
                waiting.append((path, f"{name}/", (*containing, own)))
            elif not entry.name.endswith(PART_ENDING):
                yield name, path, False


def _identity(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def _check_link(link: Path, root: Path, *, is_loop: bool) -> None:
    if is_loop:
        raise ConfigurationError(f"{link} is a link to a folder that contains it: it is not sent")
    target = link.resolve()
    if not target.is_relative_to(root):
        raise ConfigurationError(
            f"{link} is a link to the folder {target}, which is not in {root}: send that itself"
        )


def facts_of(path: Path, name: str) -> FileFacts:
    """Return the facts of a file under a name; an error if it is not a file, or may not be read."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigurationError(f"{path} is neither a file nor a folder: it is not sent")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path} may not be read by this account: nothing was sent")
    return FileFacts(name, facts.st_size, stat.S_IMODE(facts.st_mode), facts.st_mtime_ns)


def _read_name(data: Any) -> str:
    if not isinstance(data, bytes):
        raise UnreadableValueError("what arrived as the name of a file is not one")
    return decode_name(data)


def _read_facts(packed: Any) -> FileFacts:
    match packed:
        case [bytes() as name, int() as size, int() as mode, int() as mtime_ns] if (
            size >= 0 and 0 <= mode < 2**16 and -(2**63) <= mtime_ns < 2**63
        ):
            return FileFacts(decode_name(name), size, mode, mtime_ns)
    raise UnreadableValueError("what arrived as the facts of a file cannot be used")

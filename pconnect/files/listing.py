"""Listings of files and folders, and the validation of names from a peer.

A peer's listing determines where this side writes, so it is not trusted: each name must be relative, stay in its
folder, and appear only once. Names are sent as bytes, because file systems allow names that are not valid text.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pconnect.errors import ConfigurationError, UnreadableValueError

#: The suffix of the file in which a transfer collects received data. Such files are never sent.
PART_ENDING = ".pconnect.part"
# A listing is one message, and both sides keep it in memory.
MAX_ENTRIES = 200_000
# Python's own functions for folders, such as `shutil.rmtree`, recurse as deep as the folders are nested.
MAX_DEPTH = 200


class FileFacts(NamedTuple):
    """One file. Its name uses ``/`` between parts, and is empty for a file that is sent by itself."""

    name: str
    size: int
    mode: int
    mtime_ns: int


@dataclass(frozen=True)
class Listing:
    """A file, or a folder with its whole content."""

    is_folder: bool
    folders: list[str] = field(default_factory=list)
    files: list[FileFacts] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The total size of all files in bytes."""
        return sum(facts.size for facts in self.files)

    def pack(self) -> list[Any]:
        """Return the listing in its wire form."""
        folders = [encode_name(name) for name in self.folders]
        return [self.is_folder, folders, [[encode_name(facts.name), *facts[1:]] for facts in self.files]]

    @classmethod
    def unpack(cls, packed: Any) -> "Listing":
        """Return the listing for a peer's message.

        Raises `UnreadableValueError` if the message is invalid, or a name in it leads out of the folder.
        """
        match packed:
            case [bool() as is_folder, list() as folders, list() as files]:
                pass
            case _:
                raise UnreadableValueError("the peer sent an invalid list of files")
        if len(folders) + len(files) > MAX_ENTRIES:
            raise UnreadableValueError(f"the peer sent a list of more than {MAX_ENTRIES} files")
        listing = cls(
            is_folder, [_read_name(name) for name in folders], [_read_facts(facts) for facts in files]
        )
        names = [*listing.folders, *(facts.name for facts in listing.files)]
        if not is_folder and names != [""]:
            raise UnreadableValueError("the peer sent neither a single file nor a folder")
        for name in names if is_folder else ():
            if not is_inner_name(name) or name.count("/") >= MAX_DEPTH:
                raise UnreadableValueError(f"{name!r} is not the name of a file inside a folder")
        if len(set(names)) < len(names):
            raise UnreadableValueError("the peer sent a list with the same name twice")
        return listing


def encode_name(name: str) -> bytes:
    """Encode a name for sending."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(data: bytes) -> str:
    """Decode a received name."""
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
    """List a file, or a folder with its whole content.

    Links count as their targets. A linked folder is entered only if it is inside `path` and does not contain the link.
    Parts of unfinished transfers are left out.

    Raises `ConfigurationError` if there are too many files, or if an entry, which the text names, is neither a file nor
    a folder, or is a link to a folder that is not entered. Raises `OSError` if an entry cannot be read, or does not
    exist.
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
                raise ConfigurationError(f"{path} has more than {MAX_ENTRIES} files; send an archive of them")
        return listing
    if path.name.endswith(PART_ENDING):
        raise ConfigurationError(f"{path} is the rest of an interrupted transfer, which is not sent")
    return Listing(False, [], [facts_of(path, "")])


def check_sizes(listing: Listing, path: Path, limit: int) -> None:
    """Refuse files that are larger than a server allows.

    Raises `ConfigurationError`, which names the first such file, its size, and the limit.
    """
    large = [facts for facts in listing.files if facts.size > limit] if limit else []
    if large:
        name, size = path / large[0].name, large[0].size
        others = f" (and {len(large) - 1} more)" if len(large) > 1 else ""
        raise ConfigurationError(
            f"{name}{others} has {size} bytes, but this server allows at most {limit} bytes for a file "
            "(--max-file-size); nothing was sent"
        )


def walk(
    root: Path, leaves_out: Callable[["os.DirEntry[str]"], bool] = lambda _: False
) -> Iterator[tuple[str, Path, bool]]:
    """Yield name, path and whether it is a folder, for all entries below a folder except those that `leaves_out` names.

    Raises `ConfigurationError` or `OSError` as `list_tree` does.
    """
    inside = root.resolve()
    # Each folder comes with the identities of the folders that contain it. A stack avoids Python's limit for recursion.
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
                        f"{root} has folders nested more than {MAX_DEPTH} levels deep: {path}"
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
        raise ConfigurationError(
            f"{link} is a link to a folder that contains it, so it cannot be sent; move it elsewhere"
        )
    target = link.resolve()
    if not target.is_relative_to(root):
        raise ConfigurationError(
            f"{link} is a link to the folder {target}, which is not in {root}; send that folder itself"
        )


def facts_of(path: Path, name: str) -> FileFacts:
    """Return the facts of a file under a name; raise an error if it is not a file, or cannot be read."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigurationError(
            f"{path} is neither a file nor a folder, so it cannot be sent; move it elsewhere"
        )
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path} is not readable for this account; nothing was sent")
    return FileFacts(name, facts.st_size, stat.S_IMODE(facts.st_mode), facts.st_mtime_ns)


def _read_name(data: Any) -> str:
    if not isinstance(data, bytes):
        raise UnreadableValueError("the peer sent an invalid name of a file")
    return decode_name(data)


def _read_facts(packed: Any) -> FileFacts:
    match packed:
        case [bytes() as name, int() as size, int() as mode, int() as mtime_ns] if (
            size >= 0 and 0 <= mode < 2**16 and -(2**63) <= mtime_ns < 2**63
        ):
            return FileFacts(decode_name(name), size, mode, mtime_ns)
    raise UnreadableValueError("the peer sent invalid facts about a file")

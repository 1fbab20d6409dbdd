"""The two ends of a transfer: `Outgoing` reads files and folders, `Incoming` writes them. Each may be the client's.

They exchange plain values, which `pconnect.files.transfer` carries: the listing; the *offers*, which describe existing
data at the target; for each offer, the source's digest of as many bytes; then the *pieces* of the files in order. The
last piece of a file includes the digest of the whole file.
"""

import errno
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pconnect.errors import ConfigurationError, UnreadableValueError
from pconnect.files.listing import Listing
from pconnect.files.partial_file import FileSource, FileTarget

#: The maximum number of bytes of file contents in one message.
BATCH_BYTES = 4 * 2**20
# The maximum number of files in one message, because each file has a fixed cost.
_BATCH_FILES = 500


class Agreement(NamedTuple):
    """The data that need not be sent: indexes of complete files, and the offsets at which other files resume."""

    kept: tuple[int, ...]
    starts: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, offers: Sequence[Any], digests: Sequence[bytes]) -> "Agreement":
        """Compare the offers with the digests of the source.

        Raises `UnreadableValueError` if the digests do not match the offers.
        """
        if not isinstance(digests, list) or len(digests) != len(offers):
            raise UnreadableValueError("the peer did not send the requested digests")
        kept: list[int] = []
        starts: dict[int, int] = {}
        for (index, size, offered, is_part), digest in zip(offers, digests, strict=True):
            if digest == offered and index not in kept:
                if is_part:
                    starts[index] = size
                else:
                    kept.append(index)
        return cls(tuple(kept), tuple((index, size) for index, size in starts.items() if index not in kept))

    def left(self, listing: Listing) -> int:
        """Return the number of bytes to send."""
        kept = sum(listing.files[index].size for index in self.kept)
        return listing.total - kept - sum(size for _, size in self.starts)

    def batches(self, listing: Listing, batch_bytes: int = BATCH_BYTES) -> Iterator[list[list[int]]]:
        """Yield the batches to send, as lists of ``[index, offset, length]``."""
        kept, starts = set(self.kept), dict(self.starts)
        batch: list[list[int]] = []
        room = batch_bytes
        for index, facts in enumerate(listing.files):
            if index in kept:
                continue
            offset, is_whole = starts.get(index, 0), False
            while not is_whole:
                length = min(room, facts.size - offset)
                batch.append([index, offset, length])
                offset += length
                room -= length
                is_whole = offset == facts.size
                if room == 0 or len(batch) == _BATCH_FILES:
                    yield batch
                    batch, room = [], batch_bytes
        if batch:
            yield batch


class Outgoing:
    """The reading end."""

    def __init__(self, path: Path, listing: Listing) -> None:
        self.path = path  #: a file or a folder
        self.listing = listing  #: the listing of `path`; see `list_tree`
        self._files = [
            FileSource(path / facts.name if facts.name else path, facts) for facts in listing.files
        ]

    def digests(self, offers: Sequence[Any]) -> list[bytes]:
        """Return, for each offer, the digest of the same number of bytes of the file."""
        digests = []
        for offer in offers if isinstance(offers, list) else [None]:
            match offer:
                case [index, size, bytes(), bool()]:
                    digests.append(self._file(index, size).digest(size))
                case _:
                    raise UnreadableValueError("the peer sent an invalid list of offers")
        return digests

    def read(self, batch: Sequence[Any]) -> list[list[Any]]:
        """Return pieces: ``[index, offset, bytes, digest]``. The last piece of a file has a digest."""
        return [
            [index, offset, *self._file(index, offset + length).read(offset, length)]
            for index, offset, length in batch
        ]

    def close(self) -> None:
        """Close all open files."""
        for file in self._files:
            file.close()

    def _file(self, index: Any, end: Any) -> FileSource:
        if type(index) is int and type(end) is int and 0 <= index < len(self._files):
            file = self._files[index]
            if 0 <= end <= file.facts.size:
                return file
        raise UnreadableValueError(f"the peer asked for a file or a part that is not in {self.path}")


class Incoming:
    """The writing end.

    `path`: the target file or folder. Missing folders are created. `listing`: the files to receive. `is_durable`: see
    `FileTarget`. `missing`: the indexes of the files that are not yet complete.

    Raises `ConfigurationError` if a folder there is a link, because files would be written elsewhere, and `OSError` if
    a folder cannot be created. Then no file was written.
    """

    def __init__(self, path: Path, listing: Listing, *, is_durable: bool) -> None:
        self.path = path
        self.listing = listing
        self.missing = set(range(len(listing.files)))
        _make_folders(path, listing)
        self._files = [
            FileTarget(path / facts.name if facts.name else path, facts, is_durable=is_durable)
            for facts in listing.files
        ]

    def offers(self) -> list[list[Any]]:
        """Return offers for the existing data: ``[index, number of bytes, digest, whether it is a part]``.

        Raises `OSError` if a folder has the name of a file, a file cannot be read, or the disk has not enough space.
        """
        offers: list[list[Any]] = []
        lacking = 0
        for index, (file, facts) in enumerate(zip(self._files, self.listing.files, strict=True)):
            found = file.offers()
            offers += [[index, *offer] for offer in found]
            lacking += facts.size - max((offer.size for offer in found), default=0)
        folder = self.path if self.listing.is_folder else self.path.parent
        free = shutil.disk_usage(folder).free
        if lacking > free:
            raise OSError(
                errno.ENOSPC, f"the transfer needs {lacking} bytes, but only {free} are free", str(self.path)
            )
        return offers

    def keep(self, indexes: Sequence[Any]) -> None:
        """Keep the offered contents of some files; see `FileTarget.keep`."""
        for index in indexes:
            self._file(index).keep()
            self.missing.discard(index)

    def write(self, pieces: Sequence[Any]) -> None:
        """Write pieces; see `FileTarget.write`."""
        for piece in pieces:
            match piece:
                case [
                    int() as index,
                    int() as offset,
                    bytes() | bytearray() as data,
                    bytes() | None as digest,
                ]:
                    self._file(index).write(offset, data, digest)
                    if digest is not None:
                        self.missing.discard(index)
                case _:
                    raise UnreadableValueError("the peer sent an invalid piece of a file")

    def write_batch(self, batch: Sequence[Any], pieces: Any) -> None:
        """Write the pieces of a requested batch.

        Raises `UnreadableValueError` if these are not the requested pieces. Then none of them was written.
        """
        came = [_extent(piece) for piece in pieces] if isinstance(pieces, list) else None
        if came != batch:
            raise UnreadableValueError(f"the peer did not send the requested pieces of {self.path}")
        self.write(pieces)

    def close(self) -> None:
        """Close all open files. Parts stay."""
        for file in self._files:
            file.close()

    def _file(self, index: Any) -> FileTarget:
        if type(index) is int and 0 <= index < len(self._files):
            return self._files[index]
        raise UnreadableValueError(f"the peer sent data for a file that is not in {self.path}")


def _extent(piece: Any) -> list[int] | None:
    """Return ``[index, offset, length]`` of a received piece, ``None`` if it is invalid."""
    match piece:
        case [int() as index, int() as offset, bytes() | bytearray() as data, _]:
            return [index, offset, len(data)]
    return None


def _make_folders(path: Path, listing: Listing) -> None:
    if not listing.is_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    path.mkdir(parents=True, exist_ok=True)
    names = {*listing.folders, *(facts.name.rpartition("/")[0] for facts in listing.files)} - {""}
    # Include all parent folders: the listing comes from a peer, and need not name them.
    names |= {name[:end] for name in names for end, letter in enumerate(name) if letter == "/"}
    for name in sorted(names, key=lambda name: name.split("/")):
        folder = path / name
        if folder.is_symlink():
            raise ConfigurationError(
                f"{folder} is a link, so its files would be written elsewhere; remove the link"
            )
        folder.mkdir(exist_ok=True)

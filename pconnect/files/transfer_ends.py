"""Files and folders on their way: `Outgoing` at one end, `Incoming` at the other, whichever of both is the client's.

They talk in lists of plain values, which `pconnect.files.transfer` carries over: the listing; what is there already,
the *offers*; for each offer the digest that the source has for as many bytes; then *pieces* of the files in their
order, of which each that ends a file has the digest of all of it.
"""

import errno
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pconnect.errors import ConfigurationError, UnreadableValueError
from pconnect.files.listing import Listing
from pconnect.files.partial_file import FileSource, FileTarget

#: So much of files is in one message.
BATCH_BYTES = 4 * 2**20
# Small files have costs of their own.
_BATCH_FILES = 500


class Agreement(NamedTuple):
    """What need not be sent: files, by their index, that are right already; where others go on."""

    kept: tuple[int, ...]
    starts: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, offers: Sequence[Any], digests: Sequence[bytes]) -> "Agreement":
        """Compare offers with what the source has.

        Raises `UnreadableValueError` if these are no digests for the offers.
        """
        if not isinstance(digests, list) or len(digests) != len(offers):
            raise UnreadableValueError("what arrived are not the digests that were asked for")
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
        """Return how many bytes are to be sent."""
        kept = sum(listing.files[index].size for index in self.kept)
        return listing.total - kept - sum(size for _, size in self.starts)

    def batches(self, listing: Listing, batch_bytes: int = BATCH_BYTES) -> Iterator[list[list[int]]]:
        """Give what is to be sent, as lists of ``[index, offset, length]``."""
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
    """What is read at one end."""

    def __init__(self, path: Path, listing: Listing) -> None:
        self.path = path  #: a file or a folder
        self.listing = listing  #: of what is read there; see `list_tree`
        self._files = [
            FileSource(path / facts.name if facts.name else path, facts) for facts in listing.files
        ]

    def digests(self, offers: Sequence[Any]) -> list[bytes]:
        """Return for each offer the digest of as many bytes of the file."""
        digests = []
        for offer in offers if isinstance(offers, list) else [None]:
            match offer:
                case [index, size, bytes(), bool()]:
                    digests.append(self._file(index, size).digest(size))
                case _:
                    raise UnreadableValueError("what arrived is no list of what is there already")
        return digests

    def read(self, batch: Sequence[Any]) -> list[list[Any]]:
        """Return pieces: ``[index, offset, bytes, digest]``, with a digest where the file ends."""
        return [
            [index, offset, *self._file(index, offset + length).read(offset, length)]
            for index, offset, length in batch
        ]

    def close(self) -> None:
        """Close what is open."""
        for file in self._files:
            file.close()

    def _file(self, index: Any, end: Any) -> FileSource:
        if type(index) is int and type(end) is int and 0 <= index < len(self._files):
            file = self._files[index]
            if 0 <= end <= file.facts.size:
                return file
        raise UnreadableValueError(f"the other end speaks of a file that is not in {self.path}")


class Incoming:
    """What is written at the other end.

    `path`: where to put the file, or what is in the folder. Missing folders are made. `listing`: what is to come.
    `is_durable`: see `FileTarget`. Raises `ConfigurationError` if a folder there is a link, so that files would be
    written elsewhere. Raises `OSError` if a folder cannot be made, or there is no room on the disk. No file was
    written. `path`, `listing`: as given. `missing`: the indexes of the files that are not yet right.
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
        """Return what is there already: ``[index, bytes, digest, whether it is a part]``.

        Raises `OSError` if a folder is where a file belongs; something cannot be read; or there is no room on the disk.
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
                errno.ENOSPC, f"{lacking} bytes are to come, and the disk has room for {free}", str(self.path)
            )
        return offers

    def keep(self, indexes: Sequence[Any]) -> None:
        """Leave the contents of some files as they were offered; see `FileTarget.keep`."""
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
                    raise UnreadableValueError("what arrived is no piece of a file")

    def write_batch(self, batch: Sequence[Any], pieces: Any) -> None:
        """Write pieces if they are those of a batch that was asked for.

        Raises `UnreadableValueError` if they are others. Nothing was written of them.
        """
        came = [_extent(piece) for piece in pieces] if isinstance(pieces, list) else None
        if came != batch:
            raise UnreadableValueError(f"what arrived for {self.path} is not what was asked for")
        self.write(pieces)

    def close(self) -> None:
        """Close what is open; parts stay."""
        for file in self._files:
            file.close()

    def _file(self, index: Any) -> FileTarget:
        if type(index) is int and 0 <= index < len(self._files):
            return self._files[index]
        raise UnreadableValueError(f"the other end speaks of a file that is not in {self.path}")


def _extent(piece: Any) -> list[int] | None:
    """Return ``[index, offset, length]`` of what arrived, if it is a piece at all."""
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
    # With all that contain them: what a listing says comes from elsewhere.
    names |= {name[:end] for name in names for end, letter in enumerate(name) if letter == "/"}
    for name in sorted(names, key=lambda name: name.split("/")):
        folder = path / name
        if folder.is_symlink():
            raise ConfigurationError(f"{folder} is a link: files for that folder would be written elsewhere")
        folder.mkdir(exist_ok=True)

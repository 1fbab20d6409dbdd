"""One file on its way: read by `FileSource` at one end, put together by `FileTarget` at the other.

What comes is written into a *part*, a hidden file beside the target, which takes its place when it is whole and its
BLAKE2b is that of the source. A transfer that breaks leaves the part; the next one asks for the digest of as many bytes
of its source as the part has, and goes on behind them if it is the same. So a part of other contents is no danger, and
nothing has to be remembered in between.

A part is locked while it is written to: of two transfers to one place at once, from two engines of one machine for
example, the second writes into a part of its own, and who ends last stays.
"""

import contextlib
import errno
import hashlib
import importlib
import io
import os
import secrets
import stat
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pconnect.errors import UnreadableValueError
from pconnect.files.listing import PART_ENDING, FileFacts

try:
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # Windows, where nothing keeps two programs from writing to one part
    _fcntl = None

# So much is read at once to be hashed.
_STEP_BYTES = 2**20
_MAX_NAME_BYTES = 255
# The disk is full, the account's share of it, or what a process may write.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PART_FLAGS = (
    os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
)


def new_hash() -> "hashlib.blake2b":
    """Return a hash of nothing yet, as all of this uses it."""
    return hashlib.blake2b(digest_size=32)


def part_of(path: Path) -> Path:
    """Return where a transfer to `path` collects what has come.

    Examples
    --------
    >>> part_of(Path("data/depths.npy")).name
    '.depths.npy.pconnect.part'
    """
    name = f".{path.name}{PART_ENDING}"
    if len(os.fsencode(name)) > _MAX_NAME_BYTES:
        name = f".{hashlib.blake2b(os.fsencode(path.name), digest_size=16).hexdigest()}{PART_ENDING}"
    return path.with_name(name)


class FileSource:
    """A file that is read in order, and hashed on the way.

    It has to stay as it was listed: a change is an error.
    """

    def __init__(self, path: Path, facts: FileFacts) -> None:
        self.path = path
        self.facts = facts
        self._stream: io.BufferedReader | None = None
        self._hash = new_hash()
        self._position = 0

    def digest(self, size: int) -> bytes:
        """Return the digest of the first `size` bytes; reading may go on behind them."""
        if self._position != size:
            self._go_to(size)
        self.close()
        return self._hash.digest()

    def read(self, offset: int, length: int) -> tuple[bytearray, bytes | None]:
        """Return some bytes, and with the last of them the digest of the whole file, which is then closed."""
        stream = self._go_to(offset)
        data = bytearray(length)  # which arrives without a copy, unlike bytes
        if stream.readinto(data) < length:
            raise self._changed()
        self._advance(data)
        if self._position < self.facts.size:
            return data, None
        self._check(stream)
        self.close()
        return data, self._hash.digest()

    def close(self) -> None:
        """Close the file; what was hashed is kept."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _go_to(self, offset: int) -> io.BufferedReader:
        if offset < self._position:
            self._hash, self._position = new_hash(), 0
            self.close()
        if self._stream is None:
            self._stream = self.path.open("rb")
            self._check(self._stream)
            self._stream.seek(self._position)
        while self._position < offset:
            data = self._stream.read(min(_STEP_BYTES, offset - self._position))
            if not data:
                raise self._changed()
            self._advance(data)
        return self._stream

    def _advance(self, data: bytes | bytearray) -> None:
        self._hash.update(data)
        self._position += len(data)

    def _check(self, stream: BinaryIO) -> None:
        now = os.fstat(stream.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.facts.size, self.facts.mtime_ns):
            raise self._changed()

    def _changed(self) -> OSError:
        return OSError(f"{self.path} was changed while it was sent: send it again")


class Offer(NamedTuple):
    """What is at the target already: so many bytes with this digest, as the file itself or as a part of it."""

    size: int
    digest: bytes
    is_part: bool


class FileTarget:
    """A file that is put together.

    Parameters
    ----------
    path
        The place. A link there is replaced, not followed.
    facts
        What is to come.
    is_durable
        Whether it is written through to the disk before it takes its place, so that not even a machine that loses
        power leaves it there in part.
    """

    def __init__(self, path: Path, facts: FileFacts, *, is_durable: bool) -> None:
        self.path = path
        self._facts = facts
        self._is_durable = is_durable
        self._part = part_of(path)
        self._stream: BinaryIO | None = None
        self._hash = new_hash()
        self._position = 0
        self._of_part: tuple[os.stat_result, Any] | None = (
            None  # as it was offered, and the hash of its bytes
        )
        self._offered: os.stat_result | None = None
        self._is_kept = True  # what is in the part is of use for another transfer

    def offers(self) -> list[Offer]:
        """Return what is there of it.

        Raises
        ------
        OSError
            A folder is there, or what is there cannot be read.
        """
        offers = []
        with contextlib.suppress(FileNotFoundError):
            facts = self.path.lstat()
            if stat.S_ISDIR(facts.st_mode):
                raise IsADirectoryError(f"{self.path} is a folder: name the file that shall be in it")
            if stat.S_ISREG(facts.st_mode) and facts.st_size == self._facts.size:
                with self.path.open("rb") as stream:
                    offers.append(Offer(facts.st_size, _hash_of(stream).digest(), is_part=False))
                self._offered = facts
        with contextlib.suppress(FileNotFoundError):
            part = _open_part(self._part, 0)
            if part is not None:
                with part:
                    facts = os.fstat(part.fileno())
                    if 0 < facts.st_size <= self._facts.size:
                        found = _hash_of(part)
                        self._of_part = facts, found
                        offers.append(Offer(facts.st_size, found.digest(), is_part=True))
        return offers

    def keep(self) -> None:
        """Leave the contents as they were offered, and give the file its permissions and its time.

        Raises
        ------
        OSError
            It was changed meanwhile, or these may not be set.
        """
        if self._offered is None or not _is_same(self._offered, self.path.lstat()):
            raise OSError(f"{self.path} was changed meanwhile: send it again")
        self._finish(self.path)

    def write(self, offset: int, data: bytes | bytearray, digest: bytes | None) -> None:
        """Add bytes to the part; with the digest, after the last of them, let it take its place.

        Raises
        ------
        UnreadableValueError
            They are not those that come next; or all are here, and the digest is another. Then the part is removed.
        OSError
            They cannot be written. If there is no room, the part is removed.
        """
        if self._stream is None:
            self._open(offset)
        assert self._stream is not None  # noqa: S101 - it was opened
        end = offset + len(data)
        if (
            offset != self._position
            or end > self._facts.size
            or (digest is not None) != (end == self._facts.size)
        ):
            raise UnreadableValueError(f"{self.path}: what arrived is not what comes next")
        try:
            view = memoryview(data)
            while view:
                view = view[self._stream.write(view) :]
        except OSError as error:
            self._is_kept = error.errno not in _NO_ROOM
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._hash.update(data)
        self._position = end
        if digest is not None:
            self._complete(digest)

    def close(self) -> None:
        """Close the part, and remove it if it is of no use."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            if not self._is_kept:
                self._part.unlink(missing_ok=True)

    def _open(self, offset: int) -> None:
        stream = self._stream = _open_part(self._part, os.O_CREAT)
        if offset:
            if (
                stream is None
                or self._of_part is None
                or not _is_same(self._of_part[0], os.fstat(stream.fileno()))
            ):
                raise OSError(f"{self._part} was changed meanwhile: send {self.path} again")
            self._hash, self._position = self._of_part[1], self._of_part[0].st_size
        if stream is None:  # somebody else writes to the same place
            self._part = self.path.with_name(f".{secrets.token_hex(16)}{PART_ENDING}")
            self._is_kept = False  # nobody would find it
            stream = self._stream = _open_part(self._part, os.O_CREAT | os.O_EXCL)
        assert stream is not None  # noqa: S101 - nobody else knows its name
        stream.seek(offset)
        stream.truncate()

    def _complete(self, digest: bytes) -> None:
        assert self._stream is not None  # noqa: S101 - something was written
        if self._hash.digest() != digest:
            self._is_kept = False
            self.close()
            raise UnreadableValueError(
                f"{self.path}: what arrived is not what was sent (their BLAKE2b differ), so it was removed: send again"
            )
        try:
            self._finish(self._part)
            if self._is_durable:
                os.fsync(self._stream.fileno())
            if _fcntl is None:  # Windows renames no open file
                self._stream.close()
            self._part.replace(self.path)
        except BaseException:
            self._is_kept = False  # it may have permissions by now that do not let it be written to
            self.close()
            raise
        self._is_kept = True
        self.close()

    def _finish(self, path: Path) -> None:
        path.chmod(self._facts.mode & 0o777)
        os.utime(path, ns=(self._facts.mtime_ns, self._facts.mtime_ns))


def _hash_of(stream: BinaryIO) -> Any:
    found = new_hash()
    while data := stream.read(_STEP_BYTES):
        found.update(data)
    return found


def _is_same(before: os.stat_result, now: os.stat_result) -> bool:
    facts = [
        (stat.S_IFMT(each.st_mode), each.st_ino, each.st_size, each.st_mtime_ns) for each in (before, now)
    ]
    return facts[0] == facts[1]


def _open_part(path: Path, flags: int) -> BinaryIO | None:
    """Open a part and lock it; return ``None`` if somebody else writes to it."""
    while True:
        stream = os.fdopen(os.open(path, _PART_FLAGS | flags, 0o600), "r+b", buffering=0)
        if _fcntl is None:
            return stream
        try:
            _fcntl.flock(stream, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
            # Between both, it may have taken the place of the file: then what was opened is that one.
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_ino == os.fstat(stream.fileno()).st_ino:
                    return stream
            stream.close()
        except BlockingIOError:
            stream.close()
            return None
        except BaseException:
            stream.close()
            raise

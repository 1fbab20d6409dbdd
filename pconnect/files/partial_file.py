"""The transfer of one file: `FileSource` reads and hashes it, `FileTarget` writes it.

The target file is replaced as a whole, or stays unchanged.

Received data goes into a *part*, a hidden file next to the target. When the part is complete and its BLAKE2b matches
that of the source, it replaces the target. An interrupted transfer leaves its part. The next transfer asks the source
for the digest of as many bytes as the part has, and resumes after them if the digests match. So a part with wrong
contents does no harm, and no state needs to be kept between transfers.

A part is locked while it is being written. If two transfers to the same target run at the same time, for instance from
two engines on one machine, the second one uses a part with another name, and the transfer that ends last wins.
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

_DIGEST_BYTES = 32
# The number of bytes to read in one step for hashing.
_STEP_BYTES = 2**20


class RunningHash:
    """The BLAKE2b of the data so far. `size`: its number of bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    @classmethod
    def of(cls, stream: BinaryIO) -> "RunningHash":
        """Return the hash of the rest of a stream."""
        found = cls()
        while data := stream.read(_STEP_BYTES):
            found.update(data)
        return found

    def update(self, data: bytes | bytearray) -> None:
        """Add data."""
        self._hash.update(data)
        self.size += len(data)

    def digest(self) -> bytes:
        """Return the digest of the data so far. More data may follow."""
        return self._hash.digest()


class FileSource:
    """A file that is read in order and hashed.

    A change of the file since it was listed is an error.
    """

    def __init__(self, path: Path, facts: FileFacts) -> None:
        self.path = path
        self.facts = facts
        self._stream: io.BufferedReader | None = None
        self._hash = RunningHash()

    def digest(self, size: int) -> bytes:
        """Return the digest of the first `size` bytes. Reading can continue after them."""
        if self._hash.size != size:
            self._go_to(size)
        self.close()
        return self._hash.digest()

    def read(self, offset: int, length: int) -> tuple[bytearray, bytes | None]:
        """Return some bytes. With the last bytes, also return the digest of the whole file, and close it."""
        stream = self._go_to(offset)
        data = bytearray(length)  # unlike bytes, it can be filled without a copy
        if stream.readinto(data) < length:
            raise self._changed()
        self._hash.update(data)
        if self._hash.size < self.facts.size:
            return data, None
        self._check(stream)
        self.close()
        return data, self._hash.digest()

    def close(self) -> None:
        """Close the file, and keep the state of the hash."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _go_to(self, offset: int) -> io.BufferedReader:
        if offset < self._hash.size:
            self._hash = RunningHash()
            self.close()
        if self._stream is None:
            self._stream = self.path.open("rb")
            self._check(self._stream)
            self._stream.seek(self._hash.size)
        while self._hash.size < offset:
            data = self._stream.read(min(_STEP_BYTES, offset - self._hash.size))
            if not data:
                raise self._changed()
            self._hash.update(data)
        return self._stream

    def _check(self, stream: BinaryIO) -> None:
        now = os.fstat(stream.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.facts.size, self.facts.mtime_ns):
            raise self._changed()

    def _changed(self) -> OSError:
        return OSError(f"{self.path} was changed while it was sent; send it again")


try:
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # on Windows, parts are not locked
    _fcntl = None

_MAX_NAME_BYTES = 255
# The disk is full, the account's quota is used up, or the process has reached its file size limit.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PART_FLAGS = (
    os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
)


def part_of(path: Path) -> Path:
    """Return the path of the part in which a transfer to `path` collects data.

    Examples
    --------
    >>> part_of(Path("data/depths.npy")).name
    '.depths.npy.pconnect.part'
    """
    name = f".{path.name}{PART_ENDING}"
    if len(os.fsencode(name)) > _MAX_NAME_BYTES:
        name = f".{hashlib.blake2b(os.fsencode(path.name), digest_size=16).hexdigest()}{PART_ENDING}"
    return path.with_name(name)


class Offer(NamedTuple):
    """Existing data at the target, in the file itself or in a part: its number of bytes and its digest."""

    size: int
    digest: bytes
    is_part: bool


class _Part:
    """A part that is being written: an open, locked file, and the hash of its data."""

    def __init__(self, path: Path, stream: BinaryIO, passed: RunningHash, *, is_kept: bool) -> None:
        self.path = path
        self.stream = stream
        self.passed = passed  #: the hash of its valid data; anything after that is cut off
        self.is_kept = is_kept  #: whether it stays after `close`, so that another transfer can resume
        stream.seek(passed.size)
        stream.truncate()

    @classmethod
    def begin(cls, target: Path) -> "_Part":
        """Open an empty part for a target. Uses another name while another transfer writes to the usual one."""
        path = part_of(target)
        stream = _open_part(path, os.O_CREAT)
        if stream is not None:
            return cls(path, stream, RunningHash(), is_kept=True)
        path = target.with_name(f".{secrets.token_hex(16)}{PART_ENDING}")
        stream = _open_part(path, os.O_CREAT | os.O_EXCL)
        assert stream is not None  # noqa: S101 - the random name is unused
        return cls(path, stream, RunningHash(), is_kept=False)  # no later transfer would find it

    def write(self, data: bytes | bytearray) -> None:
        """Add bytes. After an `OSError` because of missing space, `close` removes the part."""
        try:
            view = memoryview(data)
            while view:
                view = view[self.stream.write(view) :]
        except OSError as error:
            self.is_kept = error.errno not in _NO_ROOM
            raise
        self.passed.update(data)

    def close(self) -> None:
        self.stream.close()
        if not self.is_kept:
            self.path.unlink(missing_ok=True)


class FileTarget:
    """A file that is being received.

    `path`: the target. A link there is replaced, not followed. `facts`: the facts of the file. `is_durable`: whether to
    flush the file to disk before it replaces the target, so that even a power failure leaves no incomplete file.
    """

    def __init__(self, path: Path, facts: FileFacts, *, is_durable: bool) -> None:
        self.path = path
        self._facts = facts
        self._is_durable = is_durable
        # The offered data: the file, and a part with its hash.
        self._offered: os.stat_result | None = None
        self._offered_part: tuple[os.stat_result, RunningHash] | None = None
        self._part: _Part | None = None  # set by the first write

    def offers(self) -> list[Offer]:
        """Return offers for existing data: a file of the same size, and a part.

        Raises `OSError` if the target is a folder, or the data cannot be read.
        """
        offers = []
        with contextlib.suppress(FileNotFoundError):
            facts = self.path.lstat()
            if stat.S_ISDIR(facts.st_mode):
                raise IsADirectoryError(f"{self.path} is a folder; give the name of a file in it")
            if stat.S_ISREG(facts.st_mode) and facts.st_size == self._facts.size:
                with self.path.open("rb") as stream:
                    offers.append(Offer(facts.st_size, RunningHash.of(stream).digest(), is_part=False))
                self._offered = facts
        with contextlib.suppress(FileNotFoundError):
            part = _open_part(part_of(self.path), 0)
            if part is not None:
                with part:
                    facts = os.fstat(part.fileno())
                    if 0 < facts.st_size <= self._facts.size:
                        found = RunningHash.of(part)
                        self._offered_part = facts, found
                        offers.append(Offer(facts.st_size, found.digest(), is_part=True))
        return offers

    def keep(self) -> None:
        """Keep the offered contents, and set the permissions and the time of the file.

        Raises `OSError` if the file was changed meanwhile, or if these cannot be set.
        """
        if self._offered is None or not _is_same(self._offered, self.path.lstat()):
            raise OSError(f"{self.path} was changed meanwhile; send it again")
        self._finish(self.path)

    def write(self, offset: int, data: bytes | bytearray, digest: bytes | None) -> None:
        """Add bytes to the part. With the last bytes, which come with the digest, replace the target by the part.

        Raises `UnreadableValueError` if these are not the next bytes, or if the digest of the complete file does not
        match; in the second case the part is removed. Raises `OSError` if writing fails. Without enough space, the part
        is removed.
        """
        if self._part is None:
            self._part = self._continue_part() if offset else _Part.begin(self.path)
        end = offset + len(data)
        if (
            offset != self._part.passed.size
            or end > self._facts.size
            or (digest is not None) != (end == self._facts.size)
        ):
            raise UnreadableValueError(f"{self.path}: the peer did not send the next bytes")
        try:
            self._part.write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        if digest is not None:
            self._complete(self._part, digest)

    def close(self) -> None:
        """Close the part, and remove it if it is useless."""
        if self._part is not None:
            self._part.close()
            self._part = None

    def _continue_part(self) -> _Part:
        """Open the part that was offered."""
        path = part_of(self.path)
        stream = _open_part(path, os.O_CREAT)
        if stream is not None and self._offered_part is not None:
            facts, passed = self._offered_part
            if _is_same(facts, os.fstat(stream.fileno())):
                return _Part(path, stream, passed, is_kept=True)
        if stream is not None:
            stream.close()
        raise OSError(f"{path} was changed meanwhile; send {self.path} again")

    def _complete(self, part: _Part, digest: bytes) -> None:
        # Remove the part after any error: its new permissions may not allow another transfer to write to it.
        part.is_kept = False
        try:
            if part.passed.digest() != digest:
                raise UnreadableValueError(
                    f"{self.path}: the received data is not the sent data (the BLAKE2b differ) and was removed; "
                    "send it again"
                )
            self._finish(part.path)
            if self._is_durable:
                os.fsync(part.stream.fileno())
            if _fcntl is None:  # Windows cannot rename an open file
                part.stream.close()
            part.path.replace(self.path)
            part.is_kept = True  # it is now the target
        finally:
            self.close()

    def _finish(self, path: Path) -> None:
        path.chmod(self._facts.mode & 0o777)
        os.utime(path, ns=(self._facts.mtime_ns, self._facts.mtime_ns))


def _is_same(before: os.stat_result, now: os.stat_result) -> bool:
    facts = [
        (stat.S_IFMT(each.st_mode), each.st_ino, each.st_size, each.st_mtime_ns) for each in (before, now)
    ]
    return facts[0] == facts[1]


def _open_part(path: Path, flags: int) -> BinaryIO | None:
    """Open a part and lock it; return ``None`` if another transfer has locked it."""
    while True:
        stream = os.fdopen(os.open(path, _PART_FLAGS | flags, 0o600), "r+b", buffering=0)
        if _fcntl is None:
            return stream
        try:
            _fcntl.flock(stream, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
            # Before it was locked, it may have replaced its target. Then we opened the target, and try again.
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

"""One file on its way: read and hashed by `FileSource`, put together by `FileTarget`.

A target is there whole, or as it was before.

What comes is written into a *part*, a hidden file beside the target, which takes its place when it is whole and its
BLAKE2b is that of the source. A transfer that breaks leaves the part; the next one asks for the digest of as many bytes
of its source as the part has, and continues behind them if it is the same. So a part of other contents is no danger,
and nothing has to be remembered in between.

A part is locked while it is written to: of two transfers to one place at once, from two engines of one machine for
example, the second writes into a part of its own, and the one that ends last stays.
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
# So much is read at once to be hashed.
_STEP_BYTES = 2**20


class RunningHash:
    """The BLAKE2b of what has passed so far, and in `size` how many bytes that was."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    @classmethod
    def of(cls, stream: BinaryIO) -> "RunningHash":
        """Return the hash of what is left to be read of a stream."""
        found = cls()
        while data := stream.read(_STEP_BYTES):
            found.update(data)
        return found

    def update(self, data: bytes | bytearray) -> None:
        """Take in what comes next."""
        self._hash.update(data)
        self.size += len(data)

    def digest(self) -> bytes:
        """Return the digest of all that has passed; more may come."""
        return self._hash.digest()


class FileSource:
    """A file that is read in order, and hashed on the way.

    It has to stay as it was listed: a change is an error.
    """

    def __init__(self, path: Path, facts: FileFacts) -> None:
        self.path = path
        self.facts = facts
        self._stream: io.BufferedReader | None = None
        self._hash = RunningHash()

    def digest(self, size: int) -> bytes:
        """Return the digest of the first `size` bytes; reading may continue behind them."""
        if self._hash.size != size:
            self._go_to(size)
        self.close()
        return self._hash.digest()

    def read(self, offset: int, length: int) -> tuple[bytearray, bytes | None]:
        """Return some bytes, and with the last of them the digest of the whole file, which is then closed."""
        stream = self._go_to(offset)
        data = bytearray(length)  # which arrives without a copy, unlike bytes
        if stream.readinto(data) < length:
            raise self._changed()
        self._hash.update(data)
        if self._hash.size < self.facts.size:
            return data, None
        self._check(stream)
        self.close()
        return data, self._hash.digest()

    def close(self) -> None:
        """Close the file; the state of the hash is kept."""
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
        return OSError(f"{self.path} was changed while it was sent: send it again")


try:
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # Windows, where nothing keeps two programs from writing to one part
    _fcntl = None

_MAX_NAME_BYTES = 255
# The disk is full, the account's share of it, or what a process may write.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PART_FLAGS = (
    os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
)


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


class Offer(NamedTuple):
    """What is at the target already: so many bytes with this digest, as the file itself or as a part of it."""

    size: int
    digest: bytes
    is_part: bool


class _Part:
    """A part that is written to: open, locked, and hashed as far as it is written."""

    def __init__(self, path: Path, stream: BinaryIO, passed: RunningHash, *, is_kept: bool) -> None:
        self.path = path
        self.stream = stream
        self.passed = passed  #: the hash of what is in it already; what is behind that is cut off
        self.is_kept = is_kept  #: whether it stays when it is closed, for another transfer to continue
        stream.seek(passed.size)
        stream.truncate()

    @classmethod
    def begin(cls, target: Path) -> "_Part":
        """Open an empty part for a target; under another name if somebody else writes to the usual one."""
        path = part_of(target)
        stream = _open_part(path, os.O_CREAT)
        if stream is not None:
            return cls(path, stream, RunningHash(), is_kept=True)
        path = target.with_name(f".{secrets.token_hex(16)}{PART_ENDING}")
        stream = _open_part(path, os.O_CREAT | os.O_EXCL)
        assert stream is not None  # noqa: S101 - nothing else knows its name
        return cls(path, stream, RunningHash(), is_kept=False)  # no later transfer would find it

    def write(self, data: bytes | bytearray) -> None:
        """Add bytes; an `OSError` that says that there is no room has it removed."""
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
    """A file that is put together.

    `path`: the place. A link there is replaced, not followed. `facts`: what is to come. `is_durable`: whether it is
    written through to the disk before it takes its place, so that not even a machine that loses power leaves it there
    in part.
    """

    def __init__(self, path: Path, facts: FileFacts, *, is_durable: bool) -> None:
        self.path = path
        self._facts = facts
        self._is_durable = is_durable
        # What was offered: the file, and a part with the hash of its bytes.
        self._offered: os.stat_result | None = None
        self._offered_part: tuple[os.stat_result, RunningHash] | None = None
        self._part: _Part | None = None  # once something is written

    def offers(self) -> list[Offer]:
        """Return what is there of it.

        Raises `OSError` if a folder is there, or what is there cannot be read.
        """
        offers = []
        with contextlib.suppress(FileNotFoundError):
            facts = self.path.lstat()
            if stat.S_ISDIR(facts.st_mode):
                raise IsADirectoryError(f"{self.path} is a folder: name the file in it")
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
        """Leave the contents as they were offered, and give the file its permissions and its time.

        Raises `OSError` if it was changed meanwhile, or these may not be set.
        """
        if self._offered is None or not _is_same(self._offered, self.path.lstat()):
            raise OSError(f"{self.path} was changed meanwhile: send it again")
        self._finish(self.path)

    def write(self, offset: int, data: bytes | bytearray, digest: bytes | None) -> None:
        """Add bytes to the part; with the digest, after the last of them, let it take its place.

        Raises `UnreadableValueError` if they are not those that come next; or all are here, and the digest is another.
        Then the part is removed. Raises `OSError` if they cannot be written. If there is no room, the part is removed.
        """
        if self._part is None:
            self._part = self._continue_part() if offset else _Part.begin(self.path)
        end = offset + len(data)
        if (
            offset != self._part.passed.size
            or end > self._facts.size
            or (digest is not None) != (end == self._facts.size)
        ):
            raise UnreadableValueError(f"{self.path}: what arrived is not what comes next")
        try:
            self._part.write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        if digest is not None:
            self._complete(self._part, digest)

    def close(self) -> None:
        """Close the part, and remove it if it is of no use."""
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
        raise OSError(f"{path} was changed meanwhile: send {self.path} again")

    def _complete(self, part: _Part, digest: bytes) -> None:
        # Whatever goes wrong from here on: by then it may have permissions that do not let it be written to.
        part.is_kept = False
        try:
            if part.passed.digest() != digest:
                raise UnreadableValueError(
                    f"{self.path}: what arrived is not what was sent (their BLAKE2b differ), so it was removed: "
                    "send again"
                )
            self._finish(part.path)
            if self._is_durable:
                os.fsync(part.stream.fileno())
            if _fcntl is None:  # Windows renames no open file
                part.stream.close()
            part.path.replace(self.path)
            part.is_kept = True  # under its new name
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

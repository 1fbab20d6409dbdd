"""One file that is sent: read in order by `FileSource`, and hashed on the way."""

import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

from pconnect.files.listing import FileFacts

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

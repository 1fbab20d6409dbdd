"""Results that cannot be sent as values: their pickles stay in the session's folder until the client asks for one.

A result may have taken hours, and only the client can allow pickle. Files are what workers, which come and go, and the
engine have in common; they go with the session. There are at most a hundred, of a GiB together; the oldest go first.
"""

import contextlib
import os
from pathlib import Path

from pserver.services.files import SessionFiles

MAX_RESULTS = 100
MAX_BYTES = 2**30
MAX_HEAD_BYTES = 2**10  # more than what a message has besides a result


class KeptResults:
    """The results that one node keeps."""

    def __init__(self, files: SessionFiles) -> None:
        self._files = files

    def keep(self, kind: str, number: int, data: bytes, max_bytes: int = MAX_BYTES) -> str:
        """Keep the pickled result of a job or a command; return why that is not possible, empty if it is kept."""
        most = min(max_bytes, MAX_BYTES)
        if len(data) > most:
            return f"its pickle takes {len(data)} bytes, and {most} are kept at most"
        try:
            path = self._path(kind, number)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            new = path.with_suffix(f".{os.getpid()}")  # of which no client asks for half
            new.write_bytes(data)
            new.replace(path)
            self._forget_oldest(path.parent)
        except OSError as error:
            return f"the server has no room: {error.strerror}"
        return ""

    def read(self, kind: str, number: int) -> bytes | None:
        """Return the pickled result of a job or a command; ``None`` if it is not kept."""
        try:
            return self._path(kind, number).read_bytes()
        except FileNotFoundError:
            return None

    def _path(self, kind: str, number: int) -> Path:
        return self._files.session_folder / "results" / f"{kind}-{int(number)}"

    @staticmethod
    def _forget_oldest(folder: Path) -> None:
        """Remove what is too much; other processes may do so, too."""
        facts = []
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                facts.append((found.st_mtime_ns, found.st_size, path))
        room = MAX_BYTES
        for position, (_, size, path) in enumerate(sorted(facts, reverse=True)):
            room -= size
            if room < 0 or position >= MAX_RESULTS:
                path.unlink(missing_ok=True)

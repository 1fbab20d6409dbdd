"""Results that cannot be sent as values: their pickles stay in the session's folder until the client fetches them.

A result may have taken hours, and only the client can allow pickle. The results are files because these outlive workers
and are shared by workers and engine. They are removed with the session. The folder holds at most a hundred results of
1 GiB in total; the oldest are removed first.
"""

import contextlib
import os
from pathlib import Path

from pserver.services.files import SessionFiles

MAX_RESULTS = 100
MAX_BYTES = 2**30
MAX_HEAD_BYTES = 2**10  # more than a message contains besides a result


class KeptResults:
    """The results that one node keeps."""

    def __init__(self, files: SessionFiles) -> None:
        self._files = files

    def keep(self, kind: str, number: int, data: bytes, max_bytes: int = MAX_BYTES) -> str:
        """Keep the pickled result of a job or a command; return "" if it is kept, else the reason why not."""
        most = min(max_bytes, MAX_BYTES)
        if len(data) > most:
            return f"its pickle takes {len(data)} bytes, but the limit is {most}"
        try:
            path = self._path(kind, number)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            new = path.with_suffix(f".{os.getpid()}")  # so no client reads half a file
            new.write_bytes(data)
            new.replace(path)
            self._forget_oldest(path.parent)
        except OSError as error:
            return f"the server cannot write it: {error.strerror}"
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
        """Remove the results beyond the limits; other processes may do so at the same time."""
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

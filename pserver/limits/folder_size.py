"""The disk usage of a folder, measured in small steps, because its owner may have put a million files there."""

import contextlib
import os
from collections.abc import Iterator

_BLOCK_BYTES = 512  # stat(2): the unit of st_blocks, whatever the file system has
_ENTRIES_AT_ONCE = 500  # some milliseconds
_NEXT_PART = 0.02  # seconds
_NEXT_LOOK = 1.0
# After a slow round comes a pause of this many times its duration.
_REST = 10


class FolderSize:
    """The size of a folder.

    `size`: bytes on the disk in the last round; a file with several names counts once. Entries that cannot be read, or
    that disappear during the round, do not count.
    """

    def __init__(self, folder: str, now: float) -> None:
        self.size = 0
        self._folder = folder
        self._due = now
        self._began = now
        self._sum = 0
        self._round: Iterator[int] | None = None

    def time_left(self, now: float) -> float:
        """Return the seconds until `step` has something to do."""
        return max(0.0, self._due - now)

    def step(self, now: float) -> None:
        """Measure a part of the folder, if it is due."""
        if now < self._due:
            return
        if self._round is None:
            self._round, self._sum, self._began = _sizes(self._folder), 0, now
        for _ in range(_ENTRIES_AT_ONCE):
            size = next(self._round, None)
            if size is None:
                self.size, self._round = self._sum, None
                self._due = now + max(_NEXT_LOOK, _REST * (now - self._began))
                return
            self._sum += size
        self.size = max(self.size, self._sum)
        self._due = now + _NEXT_PART


def _sizes(folder: str) -> Iterator[int]:
    """Yield the size of each entry below a folder without following links."""
    linked: set[tuple[int, int]] = set()
    folders = [folder]
    while folders:
        try:
            entries = os.scandir(folders.pop())
        except OSError:  # it is gone, or not accessible
            continue
        with entries, contextlib.suppress(OSError):
            for entry in entries:
                with contextlib.suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    which = found.st_dev, found.st_ino
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif found.st_nlink > 1:
                        if which in linked:
                            continue
                        linked.add(which)
                    yield found.st_blocks * _BLOCK_BYTES

"""The private folder of a program: fill it before the run, and select the files that go back to the client.

It is the folder ``outputs`` of the job, so all files in it at the end become the job's outputs. Files that the client
did not ask for, or sent itself, are removed before that.
"""

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pconnect.errors import ConfigurationError
from pconnect.files.listing import is_inner_name

# Sent files are made this many seconds old, so that any write of the program changes their time.
_AGE = 2
# Modification time, size and inode, which identify a file with its contents.
_Mark = tuple[int, int, int]


class PrivateFolder:
    """The folder `path` of one program, which is empty at first.

    `outputs`: names or patterns of the files that go back; ``None`` for all.
    """

    def __init__(self, path: Path, outputs: Sequence[str] | None) -> None:
        self.path = path
        self._outputs = outputs
        self._given: dict[str, _Mark] = {}

    def fill(self, files: Mapping[str, tuple[int, bytes]]) -> None:
        """Write the files of the program. `files`: permissions and contents by name.

        Raises `ConfigurationError` if a name leads out of the folder, and `OSError` if a file cannot be written. Then
        no files go back.
        """
        outputs, self._outputs = self._outputs, ()
        for name, (mode, data) in files.items():
            self._given[name] = self._write(name, mode, data)
        self._outputs = outputs

    def _write(self, name: str, mode: int, data: bytes) -> _Mark:
        if not is_inner_name(name):
            raise ConfigurationError(f"{name!r} is not the name of a file inside the folder of a program")
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode & 0o777)
        then = time.time_ns() - _AGE * 10**9
        os.utime(path, ns=(then, then))
        return _mark(path.stat())

    def tidy(self) -> None:
        """Remove all files that do not go back: unchanged ones, and those that `outputs` does not select."""
        self.path.mkdir(exist_ok=True)  # the program may have removed it
        for entry, name in _below(self.path):
            if not self._goes_back(entry, name):
                Path(entry).unlink(missing_ok=True)

    def _goes_back(self, entry: "os.DirEntry[str]", name: str) -> bool:
        try:
            facts = entry.stat()
        except OSError:  # a dangling link
            return False
        if not stat.S_ISREG(facts.st_mode) or self._given.get(name) == _mark(facts):
            return False
        return self._outputs is None or any(is_selected(name, pattern) for pattern in self._outputs)


def is_selected(name: str, pattern: str) -> bool:
    """Return whether a pattern matches the end of a file's name, or the end of the name of a folder above it.

    Examples
    --------
    >>> [is_selected("out/a.dat", pattern) for pattern in ("*.dat", "a.dat", "out", "out/*", "b/a.dat", "a")]
    [True, True, True, True, False, False]
    """
    path = PurePosixPath(name)
    return any(part.match(pattern) for part in (path, *path.parents) if part.name)


def _mark(facts: os.stat_result) -> _Mark:
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _below(folder: Path) -> Iterator[tuple["os.DirEntry[str]", str]]:
    """Yield all entries below a folder that are not folders, with their names. A link to a folder is not a folder."""
    waiting = [(folder, "")]
    while waiting:
        path, prefix = waiting.pop()
        path.chmod(path.stat().st_mode | stat.S_IRWXU)  # the program may have removed our permissions
        with os.scandir(path) as found:
            for entry in list(found):
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry), f"{name}/"))
                else:
                    yield entry, name

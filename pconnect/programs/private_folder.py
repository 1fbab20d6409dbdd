"""The private folder in which a program runs: what it finds there, and what of it goes back to the client.

It is the folder ``outputs`` of its job, so what is in it at the end comes back as the job's outputs. What the client
does not want, or has sent itself, is removed before that.
"""

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pconnect.errors import ConfigurationError
from pconnect.files.listing import is_inner_name

# Files that come with a program are so many seconds old, so that whatever it writes to one changes its time.
_AGE = 2
# What tells a file from another one, or from one of its name with other contents.
_Mark = tuple[int, int, int]


class PrivateFolder:
    """The folder `path`, which is empty, of one program.

    `outputs`: names, or patterns of them, of what goes back; ``None``: everything.
    """

    def __init__(self, path: Path, outputs: Sequence[str] | None) -> None:
        self.path = path
        self._outputs = outputs
        self._given: dict[str, _Mark] = {}

    def fill(self, files: Mapping[str, tuple[int, bytes]]) -> None:
        """Write what the program finds there: permissions and contents by name.

        Raises `ConfigurationError` if a name leads out of the folder, and `OSError` if a file cannot be written. Then
        nothing goes back.
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
        """Leave what goes back: of files, those that are wanted, and are not as they came."""
        self.path.mkdir(exist_ok=True)  # the program may have removed it
        for entry, name in _below(self.path):
            if not self._goes_back(entry, name):
                Path(entry).unlink(missing_ok=True)

    def _goes_back(self, entry: "os.DirEntry[str]", name: str) -> bool:
        try:
            facts = entry.stat()
        except OSError:  # a link that leads nowhere
            return False
        if not stat.S_ISREG(facts.st_mode) or self._given.get(name) == _mark(facts):
            return False
        return self._outputs is None or any(is_selected(name, pattern) for pattern in self._outputs)


def is_selected(name: str, pattern: str) -> bool:
    """Return whether a pattern selects a file: it fits the end of its name, or of that of a folder which contains it.

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
    """Give what is below a folder and is no folder itself, with its name; a link to a folder is none."""
    waiting = [(folder, "")]
    while waiting:
        path, prefix = waiting.pop()
        path.chmod(path.stat().st_mode | stat.S_IRWXU)  # the program may have taken away what we need
        with os.scandir(path) as found:
            for entry in list(found):
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry), f"{name}/"))
                else:
                    yield entry, name

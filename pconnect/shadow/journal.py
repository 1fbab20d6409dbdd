"""What `pshadow` records in a folder before it puts stand-ins in the place of programs there.

.. code-block:: text

    .pshadow/journal/NAME    what the program was, before anything is done with it
    .pshadow/bin/NAME        a link to NAME_, the program: so it runs under the name that it expects
    .pshadow/new/NAME        what is still written

The folder is gone when no stand-in is left.
"""

import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from pconnect.shadow.changes import sync_folder, write_file
from srp_tools.errors import ConfigurationError

FOLDER = ".pshadow"


@dataclass(frozen=True)
class Original:
    """What a program was: enough to know it again, for the program itself is kept whole.

    Attributes
    ----------
    inode
        Its number in the file system.
    bytes, mtime_ns
        Its size, and when it was changed, in nanoseconds.
    target
        Of a symbolic link where it leads, in hexadecimal digits, else ``""``.
    """

    inode: int
    bytes: int
    mtime_ns: int
    target: str = ""

    @classmethod
    def of(cls, path: Path) -> "Original | None":
        """Describe a file, or a symbolic link itself; ``None`` if there is none."""
        try:
            facts = path.lstat()
            target = os.fsencode(path.readlink()).hex() if stat.S_ISLNK(facts.st_mode) else ""
        except OSError:
            return None
        return cls(facts.st_ino, facts.st_size, facts.st_mtime_ns, target)

    def is_like(self, other: "Original | None") -> bool:
        """Return whether the other may be the same, brought back from a copy of the folder."""
        same = self.bytes, self.mtime_ns, self.target
        return other is not None and same == (other.bytes, other.mtime_ns, other.target)


class Journal:
    """The records of one folder of programs. Its holder has the lock of that folder."""

    def __init__(self, folder: str) -> None:
        self._programs = Path(folder)
        self._folder = self._programs / FOLDER

    def names(self) -> list[str]:
        """Return the names of the programs that are recorded."""
        self._refuse_links()
        try:
            return sorted(os.listdir(self._folder / "journal"))  # noqa: PTH208 - their bytes need not be text
        except OSError:
            return []

    def read(self, name: str) -> Original | None:
        """Return what a program was, ``None`` if it is not recorded."""
        self._refuse_links()
        path = self._folder / "journal" / name
        try:
            return Original(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{path} is damaged; if {name}_ beside it is the program, then: mv {name}_ {name}; rm {path}"
            ) from error

    def record(self, name: str, original: Original) -> None:
        """Record what a program is, on the disk, before anything is done with it."""
        self._refuse_links()
        for folder in self._folders():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)  # whatever is taken away from new files: others use the links
        written = self.write_new(name, json.dumps(asdict(original)).encode(), 0o644)
        written.rename(self._folder / "journal" / name)
        link = self._folder / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(f"../../{name}_")
        for folder in (self._folder / "bin", self._folder / "journal", self._folder, self._programs):
            sync_folder(folder)

    def write_new(self, name: str, data: bytes, mode: int) -> Path:
        """Write a file beside those that count; return its path, from which it is to be moved."""
        path = self._folder / "new" / name
        path.parent.mkdir(exist_ok=True)
        write_file(path, data, mode)
        return path

    def sync(self) -> None:
        """Have the names of the programs on the disk."""
        sync_folder(self._programs)

    def forget(self, name: str) -> None:
        """Remove what belongs to a program, last of all its record."""
        self._refuse_links()
        for part in ("new", "bin", "journal"):
            (self._folder / part / name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what one that was killed has left, and the folder when nothing is recorded."""
        names = self.names()
        for part in ("new", "bin"):
            folder = self._folder / part
            for name in os.listdir(folder) if folder.is_dir() else []:  # noqa: PTH208
                if part == "new" or name not in names:
                    (folder / name).unlink()
        if not names:
            for folder in reversed(self._folders()):
                if folder.is_dir() and not os.listdir(folder):  # noqa: PTH208
                    folder.rmdir()

    def _folders(self) -> list[Path]:
        return [self._folder, *(self._folder / part for part in ("journal", "bin", "new"))]

    def _refuse_links(self) -> None:
        """Refuse what is no folder of ours: where a link leads, files of others would be removed."""
        for folder in self._folders():
            if folder.is_symlink():
                raise ConfigurationError(f"{folder} is a link, which pshadow has not made; remove it")

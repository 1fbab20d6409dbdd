"""The records that `pshadow` keeps in a folder where it replaces programs by stand-ins.

.. code-block:: text

    .pshadow/journal/NAME    a description of the program, recorded before the first change
    .pshadow/bin/NAME        a link to NAME_, the program, so that it runs under its usual name
    .pshadow/new/NAME        a file that is still being written

`pshadow` removes ``.pshadow`` together with the last stand-in.
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
    """A description of a program, enough to recognize it. The program itself is kept unchanged.

    Attributes
    ----------
    inode
        The inode number of the file.
    bytes, mtime_ns
        Its size, and the time of its last change in nanoseconds.
    target
        The target of a symbolic link, in hexadecimal digits; ``""`` for a regular file.
    """

    inode: int
    bytes: int
    mtime_ns: int
    target: str = ""

    @classmethod
    def of(cls, path: Path) -> "Original | None":
        """Describe a file or a symbolic link (not its target); ``None`` if the path does not exist."""
        try:
            facts = path.lstat()
            target = os.fsencode(path.readlink()).hex() if stat.S_ISLNK(facts.st_mode) else ""
        except OSError:
            return None
        return cls(facts.st_ino, facts.st_size, facts.st_mtime_ns, target)

    def is_like(self, other: "Original | None") -> bool:
        """Return whether the other may be the same file, perhaps restored from a backup of the folder."""
        same = self.bytes, self.mtime_ns, self.target
        return other is not None and same == (other.bytes, other.mtime_ns, other.target)


class Journal:
    """The records of one folder of programs. The caller holds the lock of that folder."""

    def __init__(self, folder: str) -> None:
        self._programs = Path(folder)
        self._folder = self._programs / FOLDER

    def names(self) -> list[str]:
        """Return the names of all recorded programs."""
        self._refuse_links()
        try:
            return sorted(os.listdir(self._folder / "journal"))  # noqa: PTH208 - a name need not be valid text
        except OSError:
            return []

    def read(self, name: str) -> Original | None:
        """Return the recorded description of a program, ``None`` if it is not recorded."""
        self._refuse_links()
        path = self._folder / "journal" / name
        try:
            return Original(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{path} is damaged; if {name}_ is the program, run: mv {name}_ {name}; rm {path}"
            ) from error

    def record(self, name: str, original: Original) -> None:
        """Record the description of a program on disk, before anything is changed."""
        self._refuse_links()
        for folder in self._folders():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)  # whatever the umask: all users follow the links
        written = self.write_new(name, json.dumps(asdict(original)).encode(), 0o644)
        written.rename(self._folder / "journal" / name)
        link = self._folder / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(f"../../{name}_")
        for folder in (self._folder / "bin", self._folder / "journal", self._folder, self._programs):
            sync_folder(folder)

    def write_new(self, name: str, data: bytes, mode: int) -> Path:
        """Write a file to the folder for unfinished files. The caller moves it from the returned path to its place."""
        path = self._folder / "new" / name
        path.parent.mkdir(exist_ok=True)
        write_file(path, data, mode)
        return path

    def sync(self) -> None:
        """Flush the entries of the folder of programs to disk."""
        sync_folder(self._programs)

    def forget(self, name: str) -> None:
        """Remove the files that belong to a program, its record last."""
        self._refuse_links()
        for part in ("new", "bin", "journal"):
            (self._folder / part / name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove files that a killed `pshadow` left, and the whole folder if it records no program."""
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
        """Refuse symbolic links: following one would remove files elsewhere."""
        for folder in self._folders():
            if folder.is_symlink():
                raise ConfigurationError(
                    f"{folder} is a symbolic link that pshadow did not create; remove it"
                )

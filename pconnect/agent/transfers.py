"""Send files to a server before a program runs there, and fetch files afterwards.

They are in a private folder on the server, which is removed afterwards. With ``--sync``, changes that the program makes
in it are applied here, too, but never to a link, or to a file that has changed here meanwhile.
"""

import asyncio
import contextlib
import fnmatch
import itertools
import os
import stat
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pconnect.agent.held_network import Generation
from pconnect.agent.requests import Request
from pconnect.agent.shared import Shared, until_done
from pconnect.errors import ConfigurationError
from pconnect.files.transfer import get, put, targets
from pconnect.prun.settings import Settings
from pconnect.views.network_views import ClientConnection

# One lock for each node, by network and number: an engine handles one transfer at a time.
_locks: defaultdict[tuple[int, int], asyncio.Lock] = defaultdict(asyncio.Lock)
# Evaluated on the server: the name of each file below a folder, with its size, time of change, inode and permissions. A
# link whose target is inside the folder is listed as its target. Other links and special files have only a name.
_LIST = """
[[os.path.relpath(path, root), *facts]
 for os in [__import__("os")]
 for root in [os.path.realpath(os.fsencode({folder!r}))]
 for parent, folders, names in os.walk(root)
 for path in [os.path.join(parent, name) for name in names + folders]
 if os.path.islink(path) or not os.path.isdir(path)
 for real in [os.path.realpath(path)]
 for facts in [
     [[at.st_size, at.st_mtime_ns, at.st_ino, at.st_mode] for at in [os.stat(real)]][0]
     if os.path.isfile(real) and real.startswith(root + b"/") else []
 ]]
""".strip()
# Evaluated on the server: hard links to some files are created below another folder, which is fetched as a whole.
_GATHER = """
[os.link(os.path.realpath(os.path.join({folder!r}, name)), target)
 for os in [__import__("os")]
 for name in map(os.fsdecode, {names!r})
 for target in [os.path.join({stage!r}, name)]
 for _ in [os.makedirs(os.path.dirname(target), exist_ok=True)]] and None
""".strip()

Facts = dict[str, tuple[int, ...]]
T = TypeVar("T")


class _StoppedError(Exception):
    """Ends the thread of a cancelled transfer. It is never shown."""


def needs_transfer(settings: Settings) -> bool:
    """Return whether a program needs file transfers."""
    return bool(settings.send or settings.fetch or settings.sync)


class Transfers:
    """The file transfers of one program between the caller's folder here and a node.

    Raises `ConfigurationError` if the settings contradict each other.
    """

    def __init__(
        self, shared: Shared, generation: Generation, node: int, settings: Settings, request: Request
    ) -> None:
        if settings.cwd.startswith("/") or ".." in PurePosixPath(settings.cwd).parts:
            raise ConfigurationError(
                f"--cd {settings.cwd}: the sent files are in a private folder; name a folder inside it"
            )
        for name in settings.fetch:
            _inner(name)
        self._shared = shared
        self._network = generation.network
        self._lock = _locks[id(generation), node]
        self._node = node
        self._settings = settings
        self._here = Path(os.fsdecode(request.cwd))
        self._folder_mode = 0o777 & ~request.umask  # the mode of folders created here
        self._beside: dict[str, Path] = {}  # for each file kept here, the place of the server's version
        self._there = ""  # the folder on the server; relative to the session's files until the first upload
        self._is_stopped = False
        self._sent: Facts = {}  # the files on the server before the program runs
        self._before: Facts = {}  # the files here at that time

    async def bring(self, number: int) -> str:
        """Send the files; return the path of the program's working folder.

        `number`: the number of the call. Raises `OSError` or an error of the package that names the file.
        """
        await self._alone(lambda: self._put(f"prun/{number}"))
        return str(PurePosixPath(self._there, self._settings.cwd))

    async def fetch(self, program: str, host: str) -> list[str]:
        """Fetch the files; return remarks for the user. Raises the same errors as `bring`."""
        return await self._alone(lambda: self._get(program, host))

    async def tidy(self) -> None:
        """Remove the folder on the server, even if this call is cancelled."""
        if self._there:
            await until_done(asyncio.ensure_future(self._alone(self._remove)))

    async def _alone(self, function: Callable[[], T]) -> T:
        """Call a function while no other transfer uses this node. After a cancellation, it ends before the next one."""
        async with self._lock:
            return await self._shared.work_to_end(function, self._stop)

    def _stop(self) -> None:
        self._is_stopped = True

    def _check(self) -> None:
        """Raise after `_stop`, so that a cancelled transfer changes nothing more here or on the server."""
        if self._is_stopped:
            raise _StoppedError

    @property
    def _connection(self) -> ClientConnection:
        connection = self._network[self._node]
        assert isinstance(connection, ClientConnection)  # noqa: S101 - a single number selects a single node
        return connection

    def _put(self, place: str) -> None:
        if self._settings.sync:
            self._before = _facts_here(self._here)
            self._there = place
            self._there = self._upload(self._here, place)
        else:
            names = [name for pattern in self._settings.send for name in self._matching(pattern)]
            self._there = place
            with tempfile.TemporaryDirectory() as empty:
                self._there = self._upload(Path(empty), place)
            for name in names:
                self._upload(self._here / name, f"{self._there}/{name}")
        self._sent = self._facts_there()

    def _upload(self, path: Path, place: str) -> str:
        [there] = put(path, place, targets(self._connection), timeout=None, check=self._check)
        return there

    def _matching(self, pattern: str) -> list[str]:
        """Return the local names that match a pattern of `--send`."""
        name = str(_inner(pattern))
        if (self._here / name).exists():
            return [name]
        found = [path.relative_to(self._here).as_posix() for path in sorted(self._here.glob(name))]
        if not found:
            raise ConfigurationError(f"--send {pattern}: there is no such file here")
        return found

    def _facts_there(self) -> Facts:
        listed = self._connection.eval(_LIST.format(folder=self._there)).result()
        return {os.fsdecode(name): tuple(facts) for name, *facts in listed}

    def _get(self, program: str, host: str) -> list[str]:
        now = self._facts_there()
        is_sync = self._settings.sync
        wanted = {name for name, facts in now.items() if is_sync and self._sent.get(name) != facts}
        remarks = [
            f"{name} on {host} is not a file inside the private folder, so it is not fetched"
            for name in sorted(wanted)
            if not now[name]
        ]
        wanted = {name for name in wanted if now[name]}
        for pattern in self._settings.fetch:
            name = str(_inner(pattern))
            found = [each for each in now if now[each] and _is_meant(each, name)]
            if not found:
                raise ConfigurationError(f"{program} created no file {name!r} on {host}")
            wanted |= set(found)
        removed = sorted(self._sent.keys() - now.keys()) if is_sync else []
        if wanted or removed:
            remarks += self._change(sorted(wanted), removed, host)
        return remarks

    def _change(self, names: list[str], removed: list[str], host: str) -> list[str]:
        """Fetch files and put each in its place. Remove other files, but only after all fetched files have arrived."""
        with tempfile.TemporaryDirectory(prefix=".prun-", dir=self._here) as folder:
            came = Path(folder, "changed")
            if names:
                self._download(names, came)
            # Remove files first: a new folder may have the name of a removed file.
            stay = [remark for name in removed for remark in self._delete(name, host)]
            return [remark for name in names for remark in self._place(came / name, name, host)] + stay

    def _download(self, names: list[str], place: Path) -> None:
        stage = f"{self._there}.changed"
        source = _GATHER.format(folder=self._there, stage=stage, names=[os.fsencode(name) for name in names])
        try:
            self._connection.eval(source).result()
            get(stage, [place], targets(self._connection), timeout=None, check=self._check)
        finally:
            self._connection.eval(_remove(stage)).result()

    def _place(self, came: Path, name: str, host: str) -> list[str]:
        """Move a fetched file to its place here, or next to a file or folder that must not be replaced."""
        self._check()
        place, remarks = self._here / name, []
        taken = self._taken(name)
        if taken:
            own = self._here / taken
            beside = self._beside.setdefault(taken, _free_name(f"{own}.from-{host.partition(':')[0]}"))
            place = beside / place.relative_to(own)
            what = "was changed here, too" if taken == name else "is a file here"
            what = "is a folder here" if own.is_dir() else what
            remarks.append(f"{taken} {what}; the version from {host} is saved as {beside.name} next to it")
        for parent in reversed(place.parents):
            if not parent.is_dir():
                parent.mkdir()
                parent.chmod(self._folder_mode)
        came.replace(place)
        return remarks

    def _taken(self, name: str) -> str:
        """Return the file or folder here that must not be replaced by a file; ``""`` if its place is free."""
        for parent in map(str, reversed(PurePosixPath(name).parents[:-1])):
            if os.path.lexists(self._here / parent) and not (self._here / parent).is_dir():
                return parent
        is_taken = (self._here / name).is_dir() or (self._settings.sync and self._has_changed(name))
        return name if is_taken else ""

    def _delete(self, name: str, host: str) -> list[str]:
        """Remove a file that the program removed, unless it was changed here meanwhile."""
        self._check()
        if self._has_changed(name):
            return [f"{name} was removed on {host}, but changed here, so it stays"]
        with contextlib.suppress(FileNotFoundError):
            (self._here / name).unlink()
        return []

    def _has_changed(self, name: str) -> bool:
        """Return whether a file here has changed since the files were sent. A link counts as changed."""
        place = self._here / name
        return place.is_symlink() or self._before.get(name, ()) != _facts_of(place)

    def _remove(self) -> None:
        self._connection.eval(_remove(self._there)).result()


def _remove(folder: str) -> str:
    return f"__import__('shutil').rmtree(session_files / {folder!r}, ignore_errors=True)"


def _facts_here(folder: Path) -> Facts:
    return {
        path.relative_to(folder).as_posix(): _facts_of(path)
        for parent, _, names in os.walk(folder)
        for path in (Path(parent, name) for name in names)
    }


def _facts_of(path: Path) -> tuple[int, ...]:
    """Return values that change with a file; an empty tuple if it is not a regular file."""
    with contextlib.suppress(OSError):
        facts = path.lstat()
        if stat.S_ISREG(facts.st_mode):
            return facts.st_size, facts.st_mtime_ns, facts.st_ino
    return ()


def _is_meant(name: str, pattern: str) -> bool:
    """Tell whether a name or a folder above it matches a pattern. ``*`` and ``?`` never match ``/``, as in a shell."""

    def fits(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
        if not patterns:
            return True
        if patterns[0] == "**":
            return any(fits(parts[count:], patterns[1:]) for count in range(len(parts) + 1))
        return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and fits(parts[1:], patterns[1:])

    return fits(PurePosixPath(name).parts, PurePosixPath(pattern).parts)


def _free_name(name: str) -> Path:
    """Return an unused path: the name itself, or the name with a number."""
    names = itertools.chain([name], (f"{name}.{number}" for number in itertools.count(2)))
    return next(Path(each) for each in names if not os.path.lexists(each))


def _inner(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ConfigurationError(
            f"{name}: only files below the current folder can be transferred; give a relative path without .."
        )
    return path

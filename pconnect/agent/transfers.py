"""Files that go to a server before a program runs there, and come back after it.

They are in a private folder of the program there, which is removed afterwards. With ``--sync`` what the program has
changed in it is changed here, too; but never a file that somebody has changed here meanwhile, and never a link.
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

# Of all nodes, by network and number: an engine has one transfer at a time.
_locks: defaultdict[tuple[int, int], asyncio.Lock] = defaultdict(asyncio.Lock)
# Evaluated there: of each file below a folder the name, and size, time of change, number and permissions. A link counts
# as its file if that is in the folder, too; of other links, and of what is no file, there is only the name.
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
# Evaluated there: some files get second names below another folder, which is fetched in one go.
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
    """Raised in the thread of a transfer that was cancelled, whose error is not shown."""


def needs_transfer(settings: Settings) -> bool:
    """Return whether files go with a program."""
    return bool(settings.send or settings.fetch or settings.sync)


class Transfers:
    """The files of one program, which somebody's request runs at a node, from his folder here.

    Raises `ConfigurationError` if the settings cannot go together.
    """

    def __init__(
        self, shared: Shared, generation: Generation, node: int, settings: Settings, request: Request
    ) -> None:
        if settings.cwd.startswith("/") or ".." in PurePosixPath(settings.cwd).parts:
            raise ConfigurationError(
                f"--cd {settings.cwd}: files that go along are in a private folder; name one inside it"
            )
        for name in settings.fetch:
            _inner(name)
        self._shared = shared
        self._network = generation.network
        self._lock = _locks[id(generation), node]
        self._node = node
        self._settings = settings
        self._here = Path(os.fsdecode(request.cwd))
        self._folder_mode = 0o777 & ~request.umask  # of folders that are made here
        self._beside: dict[str, Path] = {}  # of what stays here, where that of the server is put
        self._there = ""  # below the folder of files of the session, before all of the path is known
        self._is_stopped = False
        self._sent: Facts = {}  # what is there before the program runs
        self._before: Facts = {}  # what is here then

    async def bring(self, number: int) -> str:
        """Bring the files there; return the path of the folder in which the program is to run.

        `number`: of the call. Raises `OSError` or an error of the package; the text says what cannot be sent.
        """
        await self._alone(lambda: self._put(f"prun/{number}"))
        return str(PurePosixPath(self._there, self._settings.cwd))

    async def fetch(self, program: str, host: str) -> list[str]:
        """Bring back what is to come back; return what the user should hear of. Raises as `bring` does."""
        return await self._alone(lambda: self._get(program, host))

    async def tidy(self) -> None:
        """Remove the folder there; also if this is cancelled."""
        if self._there:
            await until_done(asyncio.ensure_future(self._alone(self._remove)))

    async def _alone(self, function: Callable[[], T]) -> T:
        """Do something while no other transfer uses this node; when this is cancelled, it has ended before the next."""
        async with self._lock:
            return await self._shared.work_to_end(function, self._stop)

    def _stop(self) -> None:
        self._is_stopped = True

    def _check(self) -> None:
        """Go no further after `_stop`: neither here nor there is anything to change any more."""
        if self._is_stopped:
            raise _StoppedError

    @property
    def _connection(self) -> ClientConnection:
        connection = self._network[self._node]
        assert isinstance(connection, ClientConnection)  # noqa: S101 - one number is one node
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
        """Return the names here that `--send` means."""
        name = str(_inner(pattern))
        if not set("*?[") & set(name) or (self._here / name).exists():
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
            f"{name} at {host} is no file of the private folder: it is not brought back"
            for name in sorted(wanted)
            if not now[name]
        ]
        wanted = {name for name in wanted if now[name]}
        for pattern in self._settings.fetch:
            name = str(_inner(pattern))
            found = [each for each in now if now[each] and _is_meant(each, name)]
            if not found:
                raise ConfigurationError(f"{program} has made no file {name!r} at {host}")
            wanted |= set(found)
        removed = sorted(self._sent.keys() - now.keys()) if is_sync else []
        if wanted or removed:
            remarks += self._change(sorted(wanted), removed, host)
        return remarks

    def _change(self, names: list[str], removed: list[str], host: str) -> list[str]:
        """Fetch files, and put each in its place; remove others, but only when those have come."""
        with tempfile.TemporaryDirectory(prefix=".prun-", dir=self._here) as folder:
            came = Path(folder, "changed")
            if names:
                self._download(names, came)
            # Removed first, because a folder may take the place of a file.
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
        """Put a file that has come in its place here, or beside what must not be replaced."""
        self._check()
        place, remarks = self._here / name, []
        taken = self._taken(name)
        if taken:
            own = self._here / taken
            beside = self._beside.setdefault(taken, _free_name(f"{own}.from-{host.partition(':')[0]}"))
            place = beside / place.relative_to(own)
            what = "was changed here, too" if taken == name else "is a file here"
            what = "is a folder here" if own.is_dir() else what
            remarks.append(f"{taken} {what}; that of {host} is {beside.name} beside it")
        for parent in reversed(place.parents):
            if not parent.is_dir():
                parent.mkdir()
                parent.chmod(self._folder_mode)
        came.replace(place)
        return remarks

    def _taken(self, name: str) -> str:
        """Return the file or folder here that keeps a file from its place; empty: nothing."""
        for parent in map(str, reversed(PurePosixPath(name).parents[:-1])):
            if os.path.lexists(self._here / parent) and not (self._here / parent).is_dir():
                return parent
        is_taken = (self._here / name).is_dir() or (self._settings.sync and self._has_changed(name))
        return name if is_taken else ""

    def _delete(self, name: str, host: str) -> list[str]:
        """Remove a file that the program has removed, unless it was changed here meanwhile."""
        self._check()
        if self._has_changed(name):
            return [f"{name} was removed at {host}, and changed here: it stays"]
        with contextlib.suppress(FileNotFoundError):
            (self._here / name).unlink()
        return []

    def _has_changed(self, name: str) -> bool:
        """Whether a file here is another one than when the files were sent; a link counts as that."""
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
    """Return what is another one after a change; nothing if there is no regular file."""
    with contextlib.suppress(OSError):
        facts = path.lstat()
        if stat.S_ISREG(facts.st_mode):
            return facts.st_size, facts.st_mtime_ns, facts.st_ino
    return ()


def _is_meant(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern, or is in a folder that does; as in a shell, ``*`` and ``?`` are never ``/``."""

    def fits(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
        if not patterns:
            return True
        if patterns[0] == "**":
            return any(fits(parts[count:], patterns[1:]) for count in range(len(parts) + 1))
        return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and fits(parts[1:], patterns[1:])

    return fits(PurePosixPath(name).parts, PurePosixPath(pattern).parts)


def _free_name(name: str) -> Path:
    """Return a path that nothing has: a name, or that with a number."""
    names = itertools.chain([name], (f"{name}.{number}" for number in itertools.count(2)))
    return next(Path(each) for each in names if not os.path.lexists(each))


def _inner(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ConfigurationError(
            f"{name}: name files below the current folder, so that they have a place there"
        )
    return path

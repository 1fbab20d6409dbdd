"""Files that go to a server before a program runs there, and come back after it."""

import asyncio
import os
import tempfile
from collections import defaultdict
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

from pconnect.agent.held_network import Generation
from pconnect.agent.shared import Shared
from pconnect.errors import ConfigurationError
from pconnect.prun.settings import Settings
from pconnect.views.network_views import ClientConnection

# Of all nodes, by network and number: an engine has one transfer at a time.
_locks: defaultdict[tuple[int, int], asyncio.Lock] = defaultdict(asyncio.Lock)


def needs_transfer(settings: Settings) -> bool:
    """Return whether files go with a program."""
    return bool(settings.send or settings.fetch or settings.sync)


class Transfers:
    """The files of one program. `here`: its folder on this machine. `node`: where it will run."""

    def __init__(
        self, shared: Shared, generation: Generation, node: int, settings: Settings, here: Path
    ) -> None:
        self._shared = shared
        self._network = generation.network
        self._lock = _locks[id(generation), node]
        self._node = node
        self._settings = settings
        self._here = here
        self._there = ""
        self._is_ours = False  # the folder there, which is to be removed

    async def bring(self, number: int) -> str:
        """Bring the files there; return the path of the folder in which the program is to run.

        `number`: of the call. Raises `OSError` or an error of the package; the text says what cannot be sent.
        """
        async with self._lock:
            self._there = await self._shared.work(lambda: self._put(number))
        return self._there

    async def fetch(self) -> None:
        """Bring back what is to come back; raise as `bring` does."""
        async with self._lock:
            await self._shared.work(self._get)

    async def tidy(self) -> None:
        """Remove the folder there, if it was made for this program."""
        if self._is_ours:
            async with self._lock:
                await self._shared.work(self._remove)

    @property
    def _connection(self) -> Any:
        connection = self._network[self._node]
        assert isinstance(connection, ClientConnection)  # noqa: S101 - one number is one node
        return connection

    def _put(self, number: int) -> str:
        settings = self._settings
        if settings.sync:
            key = blake2b(os.fsencode(self._here), digest_size=8).hexdigest()
            return str(self._connection.put(self._here, settings.cwd or f"prun/{self._here.name}-{key}"))
        names = [_inner(name) for name in settings.send]
        if settings.cwd:
            folder = settings.cwd
        else:
            with tempfile.TemporaryDirectory() as empty:
                folder = self._connection.put(empty, f"prun/{number}")
            self._is_ours = True
            self._there = folder
        for name in names:
            self._connection.put(self._here / name, f"{folder}/{name}")
        return folder

    def _get(self) -> None:
        if self._settings.sync:
            self._connection.get(self._there, self._here)
        for name in map(_inner, self._settings.fetch):
            self._connection.get(f"{self._there}/{name}", self._here / name)

    def _remove(self) -> None:
        source = f"__import__('shutil').rmtree({self._there!r}, ignore_errors=True)"
        self._connection.eval(source).result()


def _inner(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ConfigurationError(
            f"{name}: name files below the current folder, so that they have a place there"
        )
    return path

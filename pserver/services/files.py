"""Files in an engine: transfers from and to its client, and the folders of its session.

`pserver.services.paths` decides where a path leads. `begin_put` and `begin_get` begin a transfer, and the other
services continue it. Only one transfer runs at a time: a new one ends an earlier one that has not finished.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pconnect.files.listing import Listing, check_sizes, decode_name, encode_name, list_tree
from pconnect.files.transfer_ends import Incoming, Outgoing
from pserver.services.paths import check_inside, find_path
from pserver.system.session_folder import require_folder
from srp_tools.errors import ConfigurationError


class SessionFiles:
    """The files of one session."""

    def __init__(self, session_folder: Path, max_file_size: int) -> None:
        #: The base of relative paths. An engine that replaces another one finds the earlier engine's files there.
        self.folder = session_folder / "files"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._session_folder = session_folder
        self.max_file_size = max_file_size  #: in bytes, for each; 0: any
        self._token = b""
        self._transfer: Incoming | Outgoing | None = None

    @property
    def session_folder(self) -> Path:
        """The private folder of the session. Raises `FileNotFoundError` if someone has removed it."""
        return require_folder(self._session_folder)

    def begin_put(self, token: bytes, remote: bytes, packed: Any) -> list[Any]:
        """Prepare for the files that the client has listed.

        Returns the path, and the list of files that exist already, see `Incoming.offers`. Raises `ConfigurationError`
        if the path cannot be used, or a file is larger than the server allows; nothing was changed. Raises `OSError` if
        folders cannot be created, or the disk is full; no file was written.
        """
        listing = Listing.unpack(packed)
        path = self._find(decode_name(remote), replaces_link=not listing.is_folder)
        check_sizes(listing, path, self.max_file_size)
        # Files that are removed with the session need not survive a power failure.
        is_durable = not path.is_relative_to(self._session_folder)
        return [encode_name(str(path)), self.receive(token, path, listing, is_durable=is_durable)]

    def receive(self, token: bytes, path: Path, listing: Listing, *, is_durable: bool) -> list[Any]:
        """Accept files for a path through `put`; return the list of files that exist already."""
        self.end()
        incoming = Incoming(path, listing, is_durable=is_durable)
        offers = incoming.offers()
        self._token, self._transfer = token, incoming
        return offers

    def put(self, token: bytes, kept: Sequence[int], pieces: Sequence[Any]) -> None:
        """Keep some files unchanged, and write pieces of others; see `Incoming`."""
        with self._current_transfer(token) as transfer:
            assert isinstance(transfer, Incoming)  # noqa: S101 - the token is of a put
            transfer.keep(kept)
            transfer.write(pieces)

    def finish(self, token: bytes) -> None:
        """End a put that must be complete.

        Raises `FileNotFoundError` if a file did not arrive. Those that did arrive stay.
        """
        with self._current_transfer(token) as transfer:
            assert isinstance(transfer, Incoming)  # noqa: S101 - the token is of a put
            if transfer.missing:
                raise FileNotFoundError(
                    f"{len(transfer.missing)} files that this engine needs did not arrive: send them again"
                )
            self.end()

    def begin_get(self, token: bytes, remote: bytes) -> list[Any]:
        """Return the listing of a file or a folder for the client.

        Raises `ConfigurationError` if the path cannot be used, or a file is larger than the server allows. Raises
        `OSError` if it does not exist or cannot be read.
        """
        self.end()
        path = self.find(decode_name(remote))
        listing = list_tree(path)
        if path.is_relative_to(self.folder):
            for facts in listing.files:
                check_inside(path / facts.name, self.folder)
        check_sizes(listing, path, self.max_file_size)
        self._token, self._transfer = token, Outgoing(path, listing)
        return listing.pack()

    def digests(self, token: bytes, offers: Sequence[Any]) -> list[bytes]:
        """Return the digests of the files that the client already has; see `Outgoing.digests`."""
        with self._current_transfer(token) as transfer:
            assert isinstance(transfer, Outgoing)  # noqa: S101 - the token is of a get
            return transfer.digests(offers)

    def get(self, token: bytes, batch: Sequence[Any]) -> list[list[Any]]:
        """Return pieces of files; see `Outgoing.read`."""
        with self._current_transfer(token) as transfer:
            assert isinstance(transfer, Outgoing)  # noqa: S101 - the token is of a get
            return transfer.read(batch)

    def end(self, token: bytes | None = None) -> None:
        """End the transfer with this token, or any transfer; received data stays in its partial file."""
        if self._transfer is not None and token in {None, self._token}:
            self._transfer.close()
            self._transfer = None

    def find(self, remote: str) -> Path:
        """Return the path that a client means; raises the errors of `find_path`."""
        return self._find(remote)

    def _find(self, remote: str, *, replaces_link: bool = False) -> Path:
        path = find_path(remote, self.folder, replaces_link=replaces_link)
        if path.is_relative_to(self._session_folder):
            require_folder(self._session_folder)
        return path

    @contextlib.contextmanager
    def _current_transfer(self, token: bytes) -> Iterator[Incoming | Outgoing]:
        """Return the current transfer as a context; any error in the context ends it."""
        if self._transfer is None or token != self._token:
            raise ConfigurationError(
                "this transfer has ended, because of an error or because another one began: begin again"
            )
        try:
            yield self._transfer
        except BaseException:
            self.end()
            raise


_folder: Path | None = None  # for `session_files`, which the user's modules call without an object


def publish(files: SessionFiles) -> None:
    """Let `session_files` return the folder of these files, in this process and its forks."""
    global _folder  # noqa: PLW0603 - there is one session in a process
    _folder = files.folder


def session_files() -> Path:
    """Return the session's folder of files, for use in modules; the workspace has this function under the same name.

    Raises `ConfigurationError` if this process is not an engine.
    """
    if _folder is None:
        raise ConfigurationError(
            "session_files() works only in the engine of a session, or a process forked from it"
        )
    return _folder


def is_open_to_others(path: str) -> bool:
    """Whether an account other than this one and root may write files into a folder."""
    facts = Path(path).stat()
    if facts.st_uid not in {os.geteuid(), 0} or facts.st_mode & stat.S_IWOTH:
        return True
    return bool(facts.st_mode & stat.S_IWGRP) and facts.st_gid not in {os.getegid(), 0}


def is_usable_folder(path: object) -> bool:
    """Whether a path is a folder in which an engine can work."""
    # Do not use `Path.is_dir`, which raises an error if a parent folder may not be entered.
    return isinstance(path, str) and os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)  # noqa: PTH112

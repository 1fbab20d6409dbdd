"""Where a server keeps the key that makes it the same server after a restart: a private file in its folder for state.

A copy makes no second server of the same id. The file says on which machine it was written, and which file it is
there: images of containers bring a copy along, to machines that say they are the same. It is locked while the server
runs, as containers may have one volume. With a copy, one that another server has, or a file that a power failure has
left empty, the server has another key; clients do not remember ids for longer than one call.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from pserver.system.descriptors import json_object
from srp_tools.errors import CredentialError
from srp_tools.private_files import read_private_bytes, write_private

if TYPE_CHECKING:
    from pconnect.protocol.server_proof import ServerKey

log = logging.getLogger("pserver")

_MAX_BYTES = 2**12
_SEED_BYTES = 32
_SEED = re.compile(r"[0-9a-f]{64}")
_MACHINE_ID = Path("/etc/machine-id")


class KeyFile:
    """The file at a path, which is read at once; without one that can be used there is a new key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1  # the file, as long as this server runs with its key
        self._is_anothers = False
        seed = self._read() if os.path.lexists(path) else None
        self._is_kept = seed is not None
        self._seed = seed or secrets.token_bytes(_SEED_BYTES)
        self.key = _key_of(self._seed)

    def _read(self) -> bytes | None:
        try:
            kept = json_object(read_private_bytes(self._path, _MAX_BYTES))
            facts = self._path.stat()
        except (CredentialError, OSError) as error:
            log.error("the key in %s cannot be used, so the server has a new id: %s", self._path, error)
            return None
        seed = str(kept.get("seed"))
        if not _SEED.fullmatch(seed):
            log.error("there is no key in %s, so the server has a new id", self._path)
            return None
        if kept.get("machine") != _machine() or kept.get("file") != [facts.st_dev, facts.st_ino]:
            log.warning("the key in %s is a copy of another server's: this one has a new id", self._path)
            return None
        return bytes.fromhex(seed) if self._take() else None

    def _take(self) -> bool:
        """Lock the file, so that no other server runs with this key; return whether that is possible.

        The lock ends with this process; it is not that of processes which it forks.
        """
        with contextlib.suppress(OSError):  # a file system that cannot be written, or has no locks
            self._lock = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                log.warning("another server runs with the key in %s: this one has a new id", self._path)
                self._is_anothers = True
                self.close()
        return not self._is_anothers

    def close(self) -> None:
        """Leave the key to the next server."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def keep(self) -> None:
        """Write the key, if it is not kept.

        Raises `CredentialError` or `OSError` if it cannot be written.
        """
        if self._is_kept or self._is_anothers:
            return
        words: dict[str, object] = {"version": 1, "machine": _machine(), "seed": self._seed.hex()}
        write_private(self._path, json.dumps(words), outlasts_power=False)
        with self._path.open("r+") as file:  # the same file, which now has a number
            facts = os.fstat(file.fileno())
            file.write(json.dumps(words | {"file": [facts.st_dev, facts.st_ino]}))
        self._is_kept = True
        self.close()
        self._take()

    def announcing_secret(self) -> str:
        """Return what the secrets are made of that go with announcements, see `pserver.pool.announcer`."""
        return hmac.digest(self._seed, b"pserver announcements", "sha256").hex()


def _key_of(seed: bytes) -> "ServerKey":
    # Late: commands import the daemon, too, and need no cryptography.
    from pconnect.protocol.server_proof import ServerKey  # noqa: PLC0415

    return ServerKey(seed)


def _machine() -> str:
    """Return what tells this machine from one that it was copied to."""
    try:
        number = _MACHINE_ID.read_text().strip()
    except OSError:
        number = ""
    return hashlib.sha256(f"{number} {socket.gethostname()}".encode()).hexdigest()[:16]

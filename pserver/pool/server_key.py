"""The key that identifies a server across restarts: a private file in the server's state folder.

A copy of the file does not create a second server with the same id. The file records the machine and the file number
where it was written, because images of containers carry a copy to machines with the same identity. It is locked while
the server runs, because containers may share a volume. If the file is a copy, belongs to another running server, or was
left empty by a power failure, the server gets a new key. Clients remember ids only for the duration of a call.
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
    """The key file at a path, which is read on creation; if it cannot be used, there is a new key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1  # the locked file, as long as this server uses its key
        self._is_in_use = False
        seed = self._read() if os.path.lexists(path) else None
        self._is_kept = seed is not None
        self._seed = seed or secrets.token_bytes(_SEED_BYTES)
        self.key = _key_of(self._seed)

    def _read(self) -> bytes | None:
        try:
            kept = json_object(read_private_bytes(self._path, _MAX_BYTES))
            facts = self._path.stat()
        except (CredentialError, OSError) as error:
            log.error("cannot use the key in %s, so this server has a new id: %s", self._path, error)
            return None
        seed = str(kept.get("seed"))
        if not _SEED.fullmatch(seed):
            log.error("there is no key in %s, so this server has a new id", self._path)
            return None
        if kept.get("machine") != _machine() or kept.get("file") != [facts.st_dev, facts.st_ino]:
            log.warning(
                "the key in %s is a copy of another server's, so this server has a new id", self._path
            )
            return None
        return bytes.fromhex(seed) if self._lock_file() else None

    def _lock_file(self) -> bool:
        """Lock the file, so that no other server runs with this key; return whether that succeeded.

        The lock ends with this process; forked processes do not hold it.
        """
        with contextlib.suppress(OSError):  # a file system that is read-only or has no locks
            self._lock = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                log.warning("another server uses the key in %s, so this server has a new id", self._path)
                self._is_in_use = True
                self.close()
        return not self._is_in_use

    def close(self) -> None:
        """Release the key for the next server."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def keep(self) -> None:
        """Write the key if it is not stored yet.

        Raises `CredentialError` or `OSError` if it cannot be written.
        """
        if self._is_kept or self._is_in_use:
            return
        words: dict[str, object] = {"version": 1, "machine": _machine(), "seed": self._seed.hex()}
        write_private(self._path, json.dumps(words), outlasts_power=False)
        with self._path.open("r+") as file:  # reopen the same file, which now has a number
            facts = os.fstat(file.fileno())
            file.write(json.dumps(words | {"file": [facts.st_dev, facts.st_ino]}))
        self._is_kept = True
        self.close()
        self._lock_file()

    def announcing_secret(self) -> str:
        """Return the base of the secrets that accompany announcements, see `pserver.pool.announcer`."""
        return hmac.digest(self._seed, b"pserver announcements", "sha256").hex()


def _key_of(seed: bytes) -> "ServerKey":
    # Import late: commands import the daemon as well, and do not need cryptography.
    from pconnect.protocol.server_proof import ServerKey  # noqa: PLC0415

    return ServerKey(seed)


def _machine() -> str:
    """Return a text that distinguishes this machine from one that it was copied to."""
    try:
        number = _MACHINE_ID.read_text().strip()
    except OSError:
        number = ""
    return hashlib.sha256(f"{number} {socket.gethostname()}".encode()).hexdigest()[:16]

"""The job store of one detached session: a folder with the jobs that run on without their client, and their results.

.. code-block:: text

    kept/<network id>-<node>/   of mode 0700
        user, secret            needed to recover: the user's name, and the digest of a secret
        lock                    held with flock(2) by the supervisor that runs the jobs, as long as it lives; holds the
                                reason if the supervisor ended before its jobs did
        N.job                   one line of JSON, then the JOB message; exists until a client has the result
        f7.part, a3.part        FUNCTION and SHARED messages that jobs need
        N.result                the RESULT message, renamed into place when it is complete
        stops/N                 a client that has recovered the job wants it to end, within this number of seconds

A client claims a job by removing ``N.job``, so only one client gets it however many recover at the same time. All
processes that use the folder belong to one machine and one user.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from pconnect.errors import ConfigurationError
from pconnect.protocol.frames import HEADER_BYTES, NO_LIMIT, Header
from pconnect.protocol.kinds import Kind

log = logging.getLogger("pserver")

_JOB, _RESULT, _PART = ".job", ".result", ".part"
_STOPS = "stops"
_FIRST_FILES = ("lock", "user", "secret")
_PART_NAME = re.compile(r"[a-z][0-9]{1,20}\Z")
# Space for the reason, reserved because the disk may be full when it is written.
_REASON_BYTES = 4096
_KILLED = "the session that ran it was killed"
_DAY = 86400.0


class JobStore:
    """The store in one folder. `folder`: its path, whether or not it exists yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = -1

    # --- for the session that detaches ---

    @classmethod
    def make(cls, kept: Path, network_id: bytes, node: int, user: str, digest: bytes) -> Self:
        """Create the folder of a session and lock it. Raises `OSError` if it cannot be created."""
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = cls(kept / f"{network_id.hex()}-{node}")
        store.folder.mkdir(mode=0o700)
        try:
            store._hold()
            (store.folder / "user").write_text(user, encoding="utf-8")
            (store.folder / "secret").write_bytes(digest)
        except BaseException:
            store.close()
            for name in _FIRST_FILES:  # by name: listing them takes a descriptor, and none may be free
                (store.folder / name).unlink(missing_ok=True)
            store.folder.rmdir()
            raise
        return store

    def _hold(self) -> None:
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.pwrite(self._lock, bytes(_REASON_BYTES), 0)

    @property
    def is_removed(self) -> bool:
        """Whether someone has removed the open folder, rather than just moved it away."""
        return self._lock >= 0 and not os.fstat(self._lock).st_nlink

    def add_part(self, name: str, message: bytes) -> None:
        """Write a message that several jobs need.

        Raises `ConfigurationError` if `name` is not the name of a part. Raises `OSError` if it cannot be written.
        """
        if not _PART_NAME.match(name):
            raise ConfigurationError(f"{name!r} is not the name of a part of a job")
        self._write(name + _PART, message)

    def add_job(self, number: int, facts: dict[str, Any], message: bytes) -> None:
        """Write a job to the store. Raises `OSError` if that fails."""
        self._write(f"{number}{_JOB}", json.dumps(facts).encode() + b"\n" + message)

    def end(self, reason: str) -> None:
        """Release the folder: jobs without a result are lost for this reason. If there are no jobs, remove it."""
        # This overwrites reserved space, so a full disk does not matter. A broken disk cannot store a reason.
        with contextlib.suppress(OSError):
            os.pwrite(self._lock, reason.encode()[:_REASON_BYTES], 0)
        self.close()
        with contextlib.suppress(OSError):  # the next client or the sweep removes it
            self.remove_if_done()  # a client that just took the last result saw the folder locked

    def remove(self) -> None:
        """Remove the folder and everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Close the lock file."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # --- for workers ---

    def read(self, number: int, loaded: set[str]) -> list[bytes]:
        """Return the messages that make a worker run a job, except parts that are already loaded; the JOB comes last.

        Raises `OSError` if they cannot be read.
        """
        facts, _, message = (self.folder / f"{number}{_JOB}").read_bytes().partition(b"\n")
        missing = [name for name in json.loads(facts)["parts"] if name not in loaded]
        parts = [(self.folder / f"{name}{_PART}").read_bytes() for name in missing]
        loaded.update(missing)
        return [*parts, message]

    def has_result(self, number: int) -> bool:
        """Whether a job has a result."""
        return (self.folder / f"{number}{_RESULT}").exists()

    def keep(self, number: int, result: Iterable[bytes | memoryview]) -> None:
        """Write the result of a job. Raises `OSError` if that fails."""
        self._write(f"{number}{_RESULT}", *result)

    def stops(self) -> dict[int, float]:
        """Return the jobs that a client wants to end, with the grace period of each in seconds."""
        folder = self.folder / _STOPS
        return {number: float((folder / str(number)).read_bytes()) for number in _numbers(folder, "")}

    def forget_stop(self, number: int) -> None:
        """Record the end of a job that a client wanted to end."""
        (self.folder / _STOPS / str(number)).unlink()

    def _write(self, name: str, *data: bytes | memoryview) -> None:
        # Use one name per process: the supervisor may write a worker's last result at the same time as the worker.
        path = self.folder / f"{name}.{os.getpid()}.new"
        try:
            with path.open("wb") as file:
                for buffer in data:
                    file.write(buffer)
            path.rename(self.folder / name)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    # --- for sessions that recover ---

    @classmethod
    def find(cls, kept: Path, network_id: bytes, node: int, user: str, secret: bytes) -> Self:
        """Return the store of a detached session; the caller closes it.

        Raises `ConfigurationError` if there is none, or it belongs to another user.
        """
        store = cls(kept / f"{network_id.hex()}-{node}")
        try:
            owner = (store.folder / "user").read_text(encoding="utf-8")
            digest = (store.folder / "secret").read_bytes()
        except FileNotFoundError:
            raise ConfigurationError(
                "nothing of this network is kept here: all results were recovered before, the --keep-results time of "
                "the server has expired, or someone has removed or moved their folder"
            ) from None
        if owner != user:
            raise ConfigurationError(
                f"a user other than {user} has detached this network: recover it as that user"
            )
        if not hmac.compare_digest(digest, digest_of(secret)):
            raise ConfigurationError("the secret in the token is wrong: use the token that detach() returned")
        store._lock = os.open(store.folder / "lock", os.O_RDONLY | os.O_CLOEXEC)  # for `is_removed`
        os.utime(store.folder)  # gives a client that connects just before the sweep enough time
        return store

    def numbers(self) -> list[int]:
        """Return the jobs whose results have not been taken yet, in order."""
        return sorted(_numbers(self.folder, _JOB))

    def results(self) -> set[int]:
        """Return the jobs that have a result."""
        return set(_numbers(self.folder, _RESULT))

    def changed_at(self) -> float:
        """Return when a file was last created or removed here; -1 if all results were taken."""
        try:
            return self.folder.stat().st_mtime
        except FileNotFoundError:
            return -1.0

    def facts(self, number: int) -> dict[str, Any]:
        """Return the stored facts about a job."""
        with (self.folder / f"{number}{_JOB}").open("rb") as file:
            facts: dict[str, Any] = json.loads(file.readline())
        return facts

    def result(self, number: int) -> bytes:
        """Return the RESULT message of a job."""
        return (self.folder / f"{number}{_RESULT}").read_bytes()

    def take(self, number: int) -> bool:
        """Claim the result of a job; return True to the first caller only."""
        try:
            (self.folder / f"{number}{_JOB}").unlink()
        except FileNotFoundError:
            return False
        (self.folder / f"{number}{_RESULT}").unlink(missing_ok=True)
        return True

    def ask_to_stop(self, number: int, grace: float) -> None:
        """Have the supervisor that runs a job interrupt it, and kill its process `grace` seconds later.

        Raises `OSError` if the request cannot be written.
        """
        (self.folder / _STOPS).mkdir(mode=0o700, exist_ok=True)
        self._write(f"{_STOPS}/{number}", str(float(grace)).encode())

    def remove_if_done(self) -> None:
        """Remove the folder if all results were taken and no supervisor holds it."""
        if self.folder.exists() and not self.numbers() and not self.is_held():
            self.remove()

    def is_held(self) -> bool:
        """Whether the supervisor that runs the jobs is alive."""
        return is_held(self.folder)

    def why_ended(self) -> str:
        """Return why the supervisor, which is gone, has left jobs without results."""
        try:
            reason = (self.folder / "lock").read_bytes().rstrip(b"\0").decode("utf-8", "replace")
        except FileNotFoundError:
            return _KILLED
        return reason or _KILLED


def digest_of(secret: bytes) -> bytes:
    """Return the digest of a secret to store. The secret is random and long, so a plain hash suffices."""
    return hashlib.sha256(secret).digest()


def split_results(data: bytes) -> list[tuple[int, list[bytes | memoryview]]]:
    """Split `data` into RESULT messages, and return them with the numbers of their jobs."""
    found: list[tuple[int, list[bytes | memoryview]]] = []
    while data:
        header = Header.unpack(data[:HEADER_BYTES], NO_LIMIT)
        size = HEADER_BYTES + header.head_bytes + header.payload_bytes
        if header.kind is Kind.RESULT:
            found.append((header.tag, [data[:size]]))
        data = data[size:]
    return found


def is_held(folder: Path) -> bool:
    """Whether the supervisor of this folder is alive."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _numbers(folder: Path, suffix: str) -> list[int]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except FileNotFoundError:  # all results were taken
        return []
    stems = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
    return [int(stem) for stem in stems if stem.isdecimal()]


def sweep(kept: Path, days: float, now: float) -> int:
    """Remove stores that no session holds and no client has used for `days` days; return their number."""
    swept = 0
    try:
        folders = list(kept.iterdir())
    except FileNotFoundError:
        return 0
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):  # a client has just taken all results
            newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if now - newest > days * _DAY and not is_held(folder):
                shutil.rmtree(folder)
                log.info("removed %s: its results were never recovered", folder)
                swept += 1
    return swept

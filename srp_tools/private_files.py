"""The login files: their paths, and checks that only their owner can read or change them.

The user's configuration folder (``~/.config/pserver`` on Linux) has two subfolders, so that an administrator copies
only the second to the servers:

.. code-block:: text

    client/credentials      one line, user:password
    server/tpasswd          the verifiers, see `srp_tools.verifier_file`
    server/tpasswd.conf     the SRP groups of the verifiers
    server/tpasswd.seed     the secret behind the answers to unknown users
    server/member           one line, user:password, with which a server announces itself to others

A password, or a verifier that would help to guess it, is never read from or written to a place that others can read.
If a place is too open, the error names the command that fixes it. The permissions are not changed silently: the place
may be open for a reason, and someone may have read the file already.

Windows has no such permission bits. There the user's profile folder is private by default, and nothing is checked.
"""

import contextlib
import os
import shlex
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from srp_tools.errors import CredentialError

if sys.platform != "win32":
    import fcntl

# Permissions that others must not have.
_ANY_ACCESS = 0o077
_WRITING = 0o022


def config_folder() -> Path:
    """Return the folder of this user's configuration. It need not exist."""
    return platformdirs.user_config_path("pserver", appauthor=False)


def client_file(folder: Path | None = None) -> Path:
    """Return the path of the client's file, below `folder` or the user's configuration folder."""
    return (config_folder() if folder is None else folder) / "client" / "credentials"


def server_folder(folder: Path | None = None) -> Path:
    """Return the folder with all files of a server, below `folder` or the user's configuration folder."""
    return (config_folder() if folder is None else folder) / "server"


def server_file(folder: Path | None = None) -> Path:
    """Return the path of the server's verifiers, below `folder` or the user's configuration folder."""
    return server_folder(folder) / "tpasswd"


def member_file(folder: Path | None = None) -> Path:
    """Return the path of the member's file, below `folder` or the user's configuration folder."""
    return server_folder(folder) / "member"


def check_private(path: Path) -> None:
    """Refuse a file that is accessible to others, or whose folder is.

    The file (the target, if it is a symbolic link) must be a regular file that belongs to this user or to root, without
    any permissions for group or others. The same applies to the folder that directly contains it.

    Raises `CredentialError` if the file or its folder is accessible to others or belongs to another user; the message
    has the command that fixes it. Raises `OSError` if the file does not exist or cannot be examined.
    """
    _check_file(path, _ANY_ACCESS)


def check_unwritable(path: Path) -> None:
    """Refuse a file that others can write, or whose folder they can write. Otherwise like `check_private`."""
    _check_file(path, _WRITING)


def _check_file(path: Path, forbidden: int) -> None:
    # Not `Path.resolve`, here and below: before Python 3.13 it raises RuntimeError for a link to itself.
    target = Path(os.path.realpath(path, strict=True))
    if not target.is_file():
        raise CredentialError(f"{path} is not a regular file")
    # The folder of a symbolic link matters as much as the folder of its target: anyone who can write there can
    # redirect the link.
    folders = dict.fromkeys([Path(os.path.realpath(path.parent)), target.parent])
    _refuse_if_open([*folders, target], forbidden)


def read_private(path: Path, max_bytes: int) -> str:
    """Return the text of a private file, like `read_private_bytes`.

    Also raises `CredentialError` if the file is not UTF-8.
    """
    data = read_private_bytes(path, max_bytes)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CredentialError(f"{path}, line {line}: the text is not UTF-8") from None


def read_private_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the contents of a private file.

    No other user can replace the file between the check and the read: that needs write permission for its folder.

    Raises `CredentialError` if the file is missing, accessible to others (see `check_private`), unreadable, or larger
    than `max_bytes`.
    """
    try:
        check_private(path)
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise CredentialError(
            f"there is no file {path}; create it with the command generate-srp-data"
        ) from None
    except OSError as error:
        raise CredentialError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > max_bytes:
        raise CredentialError(f"{path} is too large: more than {max_bytes} bytes")
    return data


def write_private(
    path: Path, text: str, *, others_may_list: bool = False, outlasts_power: bool = True
) -> None:
    """Write a private file atomically: a reader sees the old contents or the new, never a part.

    A missing folder is created, accessible only to its owner. A symbolic link is kept, and its target is replaced.
    Bytes that were read with ``surrogateescape`` are written unchanged. With `others_may_list`, others may enter and
    list the folder, as is usual for folders: they see the name of the file. Without `outlasts_power`, the call does not
    wait for the disk, and the file may be empty after a power failure.

    Raises `CredentialError` if the folder is accessible to others or the file cannot be written. The file is then
    unchanged.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_if_open([target.parent], _WRITING if others_may_list else _ANY_ACCESS)
        # mkstemp creates a file that only its owner can access, under an unpredictable name.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode(errors="surrogateescape"))
                file.flush()
                if outlasts_power:
                    os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink()
            raise
    except OSError as error:
        raise CredentialError(f"cannot write {path}: {error.strerror}") from error


def make_private_folder(folder: Path) -> None:
    """Create a folder that only its owner can access, or check that an existing one is private.

    Raises `CredentialError` if the folder is accessible to others or belongs to another user; the message has the
    command that fixes it. Raises `OSError` if the folder cannot be created.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_if_open([folder], _ANY_ACCESS)


@contextlib.contextmanager
def exclusive_access(path: Path) -> Iterator[None]:
    """Let only one process at a time read, change and replace a file.

    Other processes that call this wait; readers do not. The lock ends with the process that holds it, in whatever way
    the process ends. The lock is on a separate file beside `path`, because `path` itself is replaced. That file is
    opened for writing, because network file systems require that for a lock (flock(2), NFS details).

    Raises `CredentialError` if the folder is accessible to others, or the lock file cannot be created. Then nothing
    is locked.
    """
    lock = path.with_name(f"{path.name}.lock")
    try:
        make_private_folder(path.parent)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CredentialError(f"cannot write {lock}: {error.strerror}") from error
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _refuse_if_open(paths: list[Path], forbidden: int) -> None:
    """Raise one error that lists all problems of `paths` and the commands that fix them."""
    if sys.platform != "win32":
        problems = [problem for path in paths for problem in _problems(path, forbidden)]
        if problems:
            raise CredentialError("; ".join(problems))


def _problems(path: Path, forbidden: int) -> Iterator[str]:
    facts = path.stat()
    quoted = shlex.quote(str(path))
    mode = stat.S_IMODE(facts.st_mode)
    if facts.st_uid not in (os.geteuid(), 0):
        owner = f"user id {facts.st_uid}"
        yield f"{path} belongs to another user ({owner}); fix it with: chown {os.geteuid()} {quoted}"
    if not mode & forbidden:
        return
    is_folder = stat.S_ISDIR(facts.st_mode)
    open_to = "open to others" if forbidden == _ANY_ACCESS else "writable by others"
    new_mode = "go-w" if forbidden == _WRITING else "700" if is_folder else "600"
    # The alternative is for folders like /etc and /tmp, which must stay open.
    yield (
        f"the {'folder' if is_folder else 'file'} {path} is {open_to} (mode {mode:04o}); "
        f"fix it with: chmod {new_mode} {quoted}"
        + (" (or, if others need that folder, move the file to a private folder)" if is_folder else "")
    )

"""The files of a login: where they lie, and that only their owner may read or change them.

Below the user's configuration folder (``~/.config/pserver`` on Linux) there are two folders, apart so that an
administrator copies only the second to the servers:

.. code-block:: text

    client/credentials      one line, user:password
    server/tpasswd          the verifiers, see `srp_tools.verifier_file`
    server/tpasswd.conf     the groups that they are computed in
    server/tpasswd.seed     the secret behind the answers to unknown users
    server/member           one line, user:password, with which a server announces itself to others

A password, or a verifier from which it could be guessed, is neither read from nor written to a place that others can
read. A place that is too open is an error that names the command to fix it. It is not closed silently: it may be open
for a reason, and may have been read already.

Windows has no such permission bits; there the user's profile folder is private by itself and nothing is checked.
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

# The permissions that others must not have.
_ANY_ACCESS = 0o077
_WRITING = 0o022


def config_folder() -> Path:
    """Return the folder of this user's configuration. It need not exist."""
    return platformdirs.user_config_path("pserver", appauthor=False)


def client_file(folder: Path | None = None) -> Path:
    """Return the path of the client's file, below `folder` or the user's configuration folder."""
    return (config_folder() if folder is None else folder) / "client" / "credentials"


def server_folder(folder: Path | None = None) -> Path:
    """Return the folder with all that a server needs, below `folder` or the user's configuration folder."""
    return (config_folder() if folder is None else folder) / "server"


def server_file(folder: Path | None = None) -> Path:
    """Return the path of the server's verifiers, below `folder` or the user's configuration folder."""
    return server_folder(folder) / "tpasswd"


def member_file(folder: Path | None = None) -> Path:
    """Return the path of the member's file, below `folder` or the user's configuration folder."""
    return server_folder(folder) / "member"


def check_private(path: Path) -> None:
    """Refuse a file, or a folder that contains it, that is open to others.

    The file, or the file that a symbolic link leads to, has to be a regular one that belongs to this user or
    to root, without any permission for group or others; so has the folder that directly contains it.

    Raises `CredentialError` if the file or its folder is open to others or belongs to somebody else; the text has the
    command that fixes it. Raises `OSError` if there is no such file, or it cannot be looked at.
    """
    _check_file(path, _ANY_ACCESS)


def check_unwritable(path: Path) -> None:
    """Refuse a file, or a folder that contains it, that others can write; else like `check_private`."""
    _check_file(path, _WRITING)


def _check_file(path: Path, forbidden: int) -> None:
    # Not `Path.resolve`, here and below: before Python 3.13 a link to itself is a RuntimeError there.
    target = Path(os.path.realpath(path, strict=True))
    if not target.is_file():
        raise CredentialError(f"{path} is not a regular file")
    # The folder of a symbolic link counts as much as that of its target: who can change it can lead
    # elsewhere.
    folders = dict.fromkeys([Path(os.path.realpath(path.parent)), target.parent])
    _refuse_if_open([*folders, target], forbidden)


def read_private(path: Path, max_bytes: int) -> str:
    """Return the text of a private file, as by `read_private_bytes`.

    Raises `CredentialError` also if it is not UTF-8.
    """
    data = read_private_bytes(path, max_bytes)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CredentialError(f"{path}, line {line}: the text is not UTF-8") from None


def read_private_bytes(path: Path, max_bytes: int) -> bytes:
    """Return what a private file contains.

    Between the check and the reading no other user can exchange the file: that needs write permission for its folder.

    Raises `CredentialError` if the file is missing, open to others (see `check_private`), cannot be read, or has more
    than `max_bytes` bytes.
    """
    try:
        check_private(path)
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise CredentialError(f"there is no file {path}; the command generate-srp-data makes it") from None
    except OSError as error:
        raise CredentialError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > max_bytes:
        raise CredentialError(f"{path} is too large: more than {max_bytes} bytes")
    return data


def write_private(
    path: Path, text: str, *, others_may_list: bool = False, outlasts_power: bool = True
) -> None:
    """Write a private file at once: whoever reads it sees the old content or the new, never a part.

    The folder is made if it is missing, with permission for its owner only. A symbolic link stays one, and
    the file that it leads to is replaced. Bytes that were read with ``surrogateescape`` are written as they were.
    With `others_may_list` the folder may be one that others can enter and list, as most folders are: what they see is
    the name of the file. Without `outlasts_power` nothing waits for the disk: after a power failure the file may be
    empty.

    Raises `CredentialError` if the folder is open to others, or the file cannot be written. The file is as it was
    before.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_if_open([target.parent], _WRITING if others_may_list else _ANY_ACCESS)
        # mkstemp makes a file for its owner only, under a name that cannot be foreseen.
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
    """Make a folder for its owner only, or check that an existing one is private.

    Raises `CredentialError` if the folder is open to others or belongs to somebody else; the text has the command that
    fixes it. Raises `OSError` if the folder cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_if_open([folder], _ANY_ACCESS)


@contextlib.contextmanager
def exclusive_access(path: Path) -> Iterator[None]:
    """Let one process at a time read, change and replace a file.

    Others that ask for the same wait; readers do not. The lock ends with the process that holds it, however
    it ends. It is on a file of its own beside `path`, because `path` itself is replaced; and that file is
    opened for writing, because network file systems lock no other (flock(2), NFS details).

    Raises `CredentialError` if the folder is open to others, or the lock file cannot be made. Nothing is locked.
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
    """Raise one error that names everything that is wrong with `paths`, and the commands that fix it."""
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
        yield f"{path} belongs to somebody else ({owner}), fix it with: chown {os.geteuid()} {quoted}"
    if not mode & forbidden:
        return
    is_folder = stat.S_ISDIR(facts.st_mode)
    open_to = "open to others" if forbidden == _ANY_ACCESS else "one that others can write"
    new_mode = "go-w" if forbidden == _WRITING else "700" if is_folder else "600"
    # The second way is for folders like /etc and /tmp, which must stay open.
    yield (
        f"the {'folder' if is_folder else 'file'} {path} is {open_to} (mode {mode:04o}), "
        f"fix it with: chmod {new_mode} {quoted}"
        + (" (or, if others need that folder, move the file to one of its own)" if is_folder else "")
    )

"""Accounts that exist only for the processes of a test, in a separate mount namespace. Only root can make them."""

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from srp_tools.credentials import Credentials
from srp_tools.private_files import server_file
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.servers import Server, run_server

ROOT = Path(__file__).parents[2]
NUMBERS = {"alice": 30001, "bob": 30002}
_MOUNTS = ["unshare", "--mount", "--propagation", "private", "sh", "-euc"]


def in_own_accounts(folder: Path, command: Sequence[str]) -> list[str]:
    """Return a command line that runs a command where the accounts of `NUMBERS` exist, each with an empty home.

    `folder`: for temporary files.
    """
    lines = ['cd "$0"', "cp /etc/passwd /etc/group .", "mount -t tmpfs tmpfs /home"]
    for name, number in NUMBERS.items():
        home = f"/home/{name}"
        lines += [
            f"echo {name}:x:{number}:{number}::{home}:/bin/sh >> passwd",
            f"echo {name}:x:{number}: >> group",
            f"mkdir -m 700 {home}",
            f"chown {number}:{number} {home}",
        ]
    lines += [
        "mount --bind passwd /etc/passwd",
        "mount --bind group /etc/group",
        *_opened(),
        "cd /",
        'exec "$@"',
    ]
    return [*_MOUNTS, "\n".join(lines), str(folder), *command]


def _opened() -> list[str]:
    """Return shell commands that give all accounts access to the interpreter and this project in closed folders."""
    wanted = {Path(sys.prefix), Path(sys.base_prefix), ROOT}
    closed: dict[Path, set[Path]] = {}
    for path in wanted:
        above = [each for each in reversed(path.parents) if not each.stat().st_mode & 0o001]
        if above:
            closed.setdefault(above[0], set()).add(path)
    lines = []
    for number, (folder, paths) in enumerate(closed.items()):
        place = f"/home/.{number}"
        lines += [
            f"mkdir {place}",
            f"mount --bind {folder} {place}",
            f"mount -t tmpfs -o mode=755 tmpfs {folder}",
        ]
        for path in sorted(paths):
            inside = shlex.quote(f"{place}/{path.relative_to(folder)}")
            lines += [f"mkdir -p {shlex.quote(str(path))}", f"mount --bind {inside} {shlex.quote(str(path))}"]
    return lines


def run_in_own_accounts(code: str, *arguments: str) -> str:
    """Run a program as root where the accounts exist; return its output."""
    with passable_folder() as folder:
        command = in_own_accounts(folder, [sys.executable, "-c", code, *arguments])
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def passable_folder() -> Iterator[Path]:
    """Make a folder that all accounts can enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="test-accounts-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def password_of(user: str) -> str:
    return f"correct horse of {user}"


def make_users(folder: Path, names: Sequence[str]) -> Path:
    """Make a file of verifiers; return its path."""
    path = server_file(folder)
    for name in names:
        VerifierFile(path).add(make_verifier(Credentials(name, password_of(name)), 2048))
    return path


@contextmanager
def accounts_server(folder: Path, *options: str, names: Sequence[str] = ("alice", "bob")) -> Iterator[Server]:
    """Run a server as root, whose sessions run under the accounts of their users."""
    users = Credentials(next(iter(NUMBERS)), password_of(next(iter(NUMBERS)))), make_users(folder, names)
    with run_server(
        folder,
        f"--spool-dir={folder / 'spool'}",
        *options,
        users=users,
        wrapped=lambda c: in_own_accounts(folder, c),
    ) as server:
        server.local_links = False
        yield server

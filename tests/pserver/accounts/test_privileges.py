import os
from pathlib import Path

import pytest

from pserver.accounts.privileges import acting_as_owner, common_environment
from tests.support.accounts import NOBODY, needs_root
from tests.support.own_accounts import NUMBERS, run_in_own_accounts

_BECOME = """
import os, sys
from pathlib import Path
from pserver.accounts.account import find_account
from pserver.accounts import privileges
from pserver.accounts.privileges import become
set_dumpable = privileges.set_dumpable
privileges.set_dumpable = lambda value: (print("SECRET" in os.environ), set_dumpable(value))
os.environ |= {"SECRET": "1", "LC_TIME": "C", "OMP_NUM_THREADS": "2", "XDG_RUNTIME_DIR": "/run", "TMPDIR": "/root"}
os.setgroups([0, 4])
sys.stdout = open(os.dup(1), "w")
become(find_account("alice"), is_dumpable=%s)
print(os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd())
names = {"SECRET", "LC_TIME", "OMP_NUM_THREADS", "XDG_RUNTIME_DIR", "TMPDIR"}
print(sorted(name for name in os.environ if name in names))
print(*(os.environ[name] for name in ("HOME", "USER", "LOGNAME", "SHELL", "PATH")))
print(Path("/proc/self/status").stat().st_uid)
print({os.readlink(f"/proc/self/fd/{number}") == "/dev/null" for number in (1, 2)} if %s else "")
for attempt in (lambda: os.setuid(0), lambda: os.setgroups([0])):
    try:
        attempt()
    except PermissionError:
        print("refused")
"""


@needs_root
@pytest.mark.parametrize("is_dumpable", [True, False])
def test_a_process_becomes_an_account_for_good(is_dumpable: bool) -> None:
    number = NUMBERS["alice"]
    assert run_in_own_accounts(_BECOME % (is_dumpable, is_dumpable)).splitlines() == [
        "False",  # before debuggers could read anything of root's
        f"({number}, {number}, {number}) ({number}, {number}, {number}) [{number}] /home/alice",
        "['LC_TIME', 'OMP_NUM_THREADS']",
        "/home/alice alice alice /bin/sh /usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games",
        # Files in /proc of a process that cannot be inspected belong to root, see proc(5).
        str(number if is_dumpable else 0),
        "{True}" if is_dumpable else "",
        "refused",
        "refused",
    ]


_CONFINE = """
import os, socket, resource
from pserver.accounts.privileges import confine
ours, theirs = socket.socketpair()
extra = os.open("/etc/passwd", os.O_RDONLY)
source, sink = os.pipe()
shown = os.dup(1)
kept = confine([theirs.fileno(), source, shown])
tried = {
    "fork": os.fork,
    "open": lambda: [open("/etc/passwd") for _ in range(2)],
    "dial": lambda: [socket.socket() for _ in range(2)],
    "setuid": lambda: os.setuid(0),
    "own memory": lambda: os.kill(1, 9),
}
said = []
for name, attempt in tried.items():
    try:
        attempt()
        said.append(f"{name}: done")
    except OSError as error:
        said.append(f"{name}: {type(error).__name__}")
said.append(str(kept))
said.append(str(dict(os.environ)))
said.append(str([os.getresuid(), os.getgroups()]))
said.append(str(os.readlink("/proc/self/fd/0")) if os.path.exists("/proc/self/fd/0") else "closed")
os.write(kept[2], "\\n".join(said).encode())
"""


@needs_root
def test_a_confined_process_can_do_nothing() -> None:
    assert run_in_own_accounts(_CONFINE).splitlines() == [
        "fork: BlockingIOError",
        "open: OSError",
        "dial: OSError",
        "setuid: PermissionError",
        "own memory: PermissionError",
        "[3, 4, 5]",
        "{}",
        f"[({NOBODY}, {NOBODY}, {NOBODY}), []]",
        "/dev/null",
    ]


def test_what_is_for_all_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name in (
        "LANG",
        "TZ",
        "JOURNAL_STREAM",
        "LC_ALL",
        "PYTHONPATH",
        "HOME",
        "PSERVER_SLOTS",
        "AWS_SECRET_ACCESS_KEY",
        "PATH",
    ):
        monkeypatch.setenv(name, "value")
    found = common_environment()
    assert set(found) == {"LANG", "TZ", "JOURNAL_STREAM", "LC_ALL", "PYTHONPATH", "PATH"}
    assert found["PATH"].startswith("/usr/local/bin:")


@needs_root
def test_files_are_changed_with_the_rights_of_the_owner(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    of_root = os.getgroups(), os.getegid()
    with acting_as_owner(place):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (NOBODY, NOBODY, [])
        with pytest.raises(PermissionError):
            secret.read_bytes()
    assert (os.geteuid(), (os.getgroups(), os.getegid())) == (0, of_root)
    with acting_as_owner(tmp_path):
        assert secret.read_bytes() == b""

"""Machines with real OpenSSH servers, and accounts whose login shells and start files a test chooses.

An ordinary user runs each server, on port 22 of a machine's own network. So the only account there is that user's, with
the home and the login shell from the machine's own ``/etc/passwd``.
"""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.machines import Machine, python_of_the_tests, run_machines
from tests.support.programs import program

_CONFIG = """\
HostKey {home}/.ssh/host_key
AuthorizedKeysFile {home}/.ssh/authorized_keys
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv PATH={path} XDG_RUNTIME_DIR={home}/run PSERVER_RUNTIME_DIR={home}/run{variables}
"""
_CLIENT = """\
Host *
    StrictHostKeyChecking accept-new
"""
_PASSWD = """\
root:x:0:0:root:/root:/bin/bash
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
alice:x:1000:1000:Alice:{home}:{shell}
"""
_LISTENS = "for i in $(seq 200); do (exec 3<>/dev/tcp/127.0.0.1/22) 2>/dev/null && break; sleep 0.05; done"


@dataclass(frozen=True)
class Account:
    """A user's account on a machine."""

    shell: str = "/bin/bash"  #: the login shell
    files: Mapping[str, str] = field(default_factory=dict)  #: contents of files, by their names in the home
    path: str | None = None  #: the PATH of a login; ``None``: the default one and the Python of the tests
    variables: Mapping[str, str] = field(default_factory=dict)  #: environment variables of a login by ssh


@contextlib.contextmanager
def run_ssh_machines(
    folder: Path,
    accounts: Mapping[str, Account],
    variables: dict[str, str] | None = None,
    *,
    share_homes: bool = True,
) -> Iterator[dict[str, Machine]]:
    """Run machines by name; each can log in to each other one without a prompt.

    `share_homes`: whether each machine sees the homes of the others, at the same paths as the test.
    """
    server = program("sshd", "openssh-server")
    keygen = program("ssh-keygen", "openssh-client")
    key = folder / "key"
    _make_key(keygen, key)
    for name, account in accounts.items():
        home = folder / name
        ssh = home / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        _make_key(keygen, ssh / "host_key")
        for source, target in {"key": "id_ed25519", "key.pub": "authorized_keys"}.items():
            (ssh / target).write_bytes((folder / source).read_bytes())
            (ssh / target).chmod(0o600)
        path = account.path or f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        settings = "".join(f" {name}={text}" for name, text in account.variables.items())
        (ssh / "sshd_config").write_text(_CONFIG.format(home=home, path=path, variables=settings))
        (ssh / "config").write_text(_CLIENT)
        (home / "passwd").write_text(_PASSWD.format(home=home, shell=account.shell))
        for file, text in account.files.items():
            (home / file).parent.mkdir(parents=True, exist_ok=True)
            (home / file).write_text(text)
    with run_machines(folder, list(accounts), variables, share_homes=share_homes) as machines:
        python_of_the_tests(folder)
        for machine in machines.values():
            machine.run(f"{server} -f ~/.ssh/sshd_config -E ~/.ssh/log")  # it changes to another folder
            machine.run(_LISTENS)
        yield machines


def _make_key(keygen: str, path: Path) -> None:
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)

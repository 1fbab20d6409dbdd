"""Other tools that run programs remotely, started on this machine only for the benchmark: OpenSSH and distcc.

Both listen on free ports of the loopback address, with files in a temporary folder.
"""

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.waiting import wait_until

_SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""
_SSH = """\
Host bench
    HostName 127.0.0.1
    Port {port}
    IdentityFile {folder}/key
    IdentitiesOnly yes
    StrictHostKeyChecking accept-new
    UserKnownHostsFile {folder}/known_hosts
    LogLevel ERROR
    ControlMaster auto
    ControlPath {folder}/master
    ControlPersist 600
"""
# Root's login shell reads start files that take longer than ssh itself. So its account there has an empty home and sh,
# the best case for ssh. sshd needs the folder when root starts it. Only this sshd sees both.
_AS_ROOT = """
mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && mount --bind "$1/passwd" /etc/passwd && shift && exec "$@"
"""
_PASSWD = "root:x:0:0:root:{folder}:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"

Words = Sequence[str]


@contextlib.contextmanager
def ssh(folder: Path) -> Iterator[Words | None]:
    """Yield the words that make ssh run a program here, over a shared connection; ``None`` without ssh."""
    server, keygen = (shutil.which(name, path=_path()) for name in ("sshd", "ssh-keygen"))
    if server is None or keygen is None:
        yield None
        return
    port = free_port()
    for name in ("host_key", "key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "sshd_config").write_text(_SSHD.format(port=port, folder=folder))
    (folder / "config").write_text(_SSH.format(port=port, folder=folder))
    (folder / "passwd").write_text(_PASSWD.format(folder=folder))
    words = [server, "-D", "-f", f"{folder}/sshd_config", "-E", f"{folder}/log"]
    if not os.geteuid():
        words = ["unshare", "--mount", "sh", "-c", _AS_ROOT, "sh", str(folder), *words]
    with _running(words, port, folder / "log"):
        client = ["ssh", "-F", f"{folder}/config"]
        try:
            yield [*client, "bench"]
        finally:
            subprocess.run([*client, "-O", "exit", "bench"], check=False, capture_output=True)


@contextlib.contextmanager
def distcc(folder: Path) -> Iterator[Words | None]:
    """Yield the words that make distcc run a compiler here, always on its server; ``None`` without distcc."""
    server = shutil.which("distccd", path=_path())
    if server is None or shutil.which("distcc") is None:
        yield None
        return
    port = free_port()
    words = [server, "--no-detach", "--daemon", "--listen=127.0.0.1", f"--port={port}", "--allow=127.0.0.1"]
    words += ["--user=nobody", f"--jobs={os.cpu_count()}", "--log-stderr", "--log-level=warning"]
    with _running(words, port, folder / "log"):
        settings = {"DISTCC_HOSTS": f"127.0.0.1:{port}/8", "DISTCC_FALLBACK": "0", "DISTCC_DIR": str(folder)}
        yield ["env", *(f"{name}={text}" for name, text in settings.items()), "distcc"]


def free_port() -> int:
    """Return a port that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def _running(words: Words, port: int, log: Path) -> Iterator[None]:
    """Run a server that listens on a port."""
    with log.open("ab") as file:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, shlex.join(words), 20)
        if process.poll() is not None:
            print(log.read_text(), file=sys.stderr)
            raise RuntimeError(f"{shlex.join(words)} has ended with status {process.returncode}")
        yield
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _path() -> str:
    """Return the folders to search for programs: an ordinary user's PATH lacks servers."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin"

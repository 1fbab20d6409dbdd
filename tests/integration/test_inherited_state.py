"""Client, local network and server work whatever state they inherit from their parent.

States that cannot hide each other share a case, because each case starts two servers.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pserver.system.pidfile import find_server, stop_server
from tests.support.places import add_user, use_private_places
from tests.support.waiting import DEADLINE

# Inherited state -> the parent's code that produced it.
STATES = {
    "no standard streams": "for number in range(3): os.close(number)",
    "no standard input": "os.close(0)",
    "standard streams for reading": "for number in range(3): os.dup2(os.open('/dev/null', os.O_RDONLY), number)",
    "standard streams to a full disk": "for number in (1, 2): os.dup2(os.open('/dev/full', os.O_RDWR), number)",
    "open files, umask 0": "for _ in range(300): os.set_inheritable(os.dup(0), True)\nos.umask(0)",
    "few open files": "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))",
    "ignored signals": (
        "for number in {*range(1, 32)} - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)"
    ),
    "blocked signals": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "an ended child, umask 077": "os.fork() or os._exit(0)\nos.umask(0o077)",
    "a folder that was removed": "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
    "a folder without permissions": "os.mkdir('shut'); os.chdir('shut'); os.chmod('.', 0)",
    "a folder of modules with known names": (
        "for name in ('numpy', 'msgpack', 'random', 'socket', 'pserver', 'pconnect', 'tlslite', 'ssl'):\n"
        "    open(name + '.py', 'w').write('raise ImportError')"
    ),
    "an empty environment, also without PATH": (
        "kept = ('XDG_', 'PYTHONPATH', 'PSERVER_RUNTIME_DIR')\n"
        "keep = {name: os.environ[name] for name in os.environ if name.startswith(kept)}\n"
        "os.environ.clear()\n"
        "os.environ.update(keep)"
    ),
    "HOME and TMPDIR that are not there": "os.environ.update(HOME='/nonexistent', TMPDIR='/nonexistent')",
    "locale C": "os.environ.update(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')",
    "locale, time zone and terminal that are not there": (
        "os.environ.update(LC_ALL='xx_YY.KOI8', LANG='nonsense', TZ='nonsense/place')\n"
        "os.environ.update(TERM='nonsense', COLUMNS='x', LINES='-1')"
    ),
    "streams in ASCII, code without docstrings": (
        "os.environ.update(PYTHONIOENCODING='ascii:strict', PYTHONOPTIMIZE='2')"
    ),
    "warnings as errors": "os.environ['PYTHONWARNINGS'] = 'error'",
    "development mode": "os.environ['PYTHONDEVMODE'] = '1'",
    "short integers only, a startup file that fails, threads that make no sense, a proxy": (
        "os.environ.update(PYTHONINTMAXSTRDIGITS='640', PYTHONSTARTUP='/nonexistent')\n"
        "os.environ.update(OMP_NUM_THREADS='1,2', OPENBLAS_NUM_THREADS='x')\n"
        "os.environ.update(http_proxy='http://127.0.0.1:1', ALL_PROXY='socks5://127.0.0.1:1')"
    ),
    "OpenSSL without TLS 1.3": (
        "lines = ['openssl_conf=a', '[a]', 'ssl_conf=b', '[b]', 'system_default=c', '[c]', 'MaxProtocol=TLSv1.2']\n"
        "open('openssl.cnf', 'w').write('\\n'.join(lines))\n"
        "os.environ['OPENSSL_CONF'] = os.path.abspath('openssl.cnf')"
    ),
    "small stack, no locked memory": (
        "resource.setrlimit(resource.RLIMIT_STACK, (2**20, 2**20))\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))"
    ),
    "stack without limit, one processor, low priority": (
        "resource.setrlimit(resource.RLIMIT_STACK, (-1, -1))\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "os.nice(5)"  # at the lowest priority, it would time out beside other tests
    ),
}

CLIENT = """
import sys
from pathlib import Path
from pconnect import pconnect, start_local_network
results = []
for make in (
    lambda: start_local_network(1),
    lambda: pconnect(sys.argv[2], user="alice", password="correct horse"),
):
    with make() as net:
        results += net[1].eval("6 * 7").result(30), net.submit(pow, 2, 5).result(30)
Path(sys.argv[1]).write_text(str(results))
"""


def run(command: list[str], state: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command whose parent has prepared a state."""
    parent = f"import os, resource, signal, sys\n{STATES[state]}\nos.execv(sys.argv[1], sys.argv[1:])"
    work = Path(tempfile.mkdtemp(dir=folder))
    return subprocess.run(
        [sys.executable, "-c", parent, *command],
        cwd=work,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_servers_and_their_client_work_whatever_they_inherit(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_private_places(tmp_path, monkeypatch)
    add_user()
    ports = ["--cmd-port", "0", "--data-port", "0", "--bind", "127.0.0.1", "--allow-root"]
    started = run([sys.executable, "-P", "-m", "pserver", "start", *ports], state, tmp_path)
    server = find_server("default")
    assert server is not None, started.stderr
    try:
        (tmp_path / "script.py").write_text(CLIENT)
        arguments = [str(tmp_path / "results"), f"127.0.0.1:{server.status['cmd_port']}"]
        done = run([sys.executable, str(tmp_path / "script.py"), *arguments], state, tmp_path)
        assert (tmp_path / "results").read_text() == "[42, 32, 42, 32]", done.stderr
    finally:
        stopped = stop_server("default")
    assert stopped is not None and not stopped.killed
    assert started.stderr == done.stderr == ""
    assert find_server("default") is None

"""Client, local network and server work whatever state they inherit from their parent: one case for each."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pserver.system.pidfile import find_server
from tests.support.places import add_user, use_private_places
from tests.support.waiting import DEADLINE

# Inherited state -> the parent's code that produced it.
STATES = {
    "no standard streams": "for number in range(3): os.close(number)",
    "no standard input": "os.close(0)",
    "standard streams for reading": "for number in range(3): os.dup2(os.open('/dev/null', os.O_RDONLY), number)",
    "standard streams to a full disk": "for number in (1, 2): os.dup2(os.open('/dev/full', os.O_RDWR), number)",
    "open files": "for _ in range(300): os.set_inheritable(os.dup(0), True)",
    "few open files": "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))",
    "ignored signals": (
        "for number in {*range(1, 32)} - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)"
    ),
    "blocked signals": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "an ended child": "os.fork() or os._exit(0)",
    "umask 0": "os.umask(0)",
    "umask 077": "os.umask(0o077)",
    "a folder that was removed": "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
    "a folder without permissions": "os.mkdir('shut'); os.chdir('shut'); os.chmod('.', 0)",
    "a folder of modules with known names": (
        "for name in ('numpy', 'msgpack', 'random', 'socket', 'pserver', 'pconnect', 'tlslite', 'ssl'):\n"
        "    open(name + '.py', 'w').write('raise ImportError')"
    ),
    "an empty environment": (
        "kept = ('XDG_', 'PYTHONPATH', 'PSERVER_RUNTIME_DIR')\n"
        "keep = {name: os.environ[name] for name in os.environ if name.startswith(kept)}\n"
        "os.environ.clear()\n"
        "os.environ.update(keep)"
    ),
    "no PATH": "os.environ.pop('PATH')",
    "HOME that is not there": "os.environ['HOME'] = '/nonexistent'",
    "TMPDIR that is not there": "os.environ['TMPDIR'] = '/nonexistent'",
    "locale C": "os.environ.update(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')",
    "locale that is not there": "os.environ.update(LC_ALL='xx_YY.KOI8', LANG='nonsense')",
    "time zone that is not there": "os.environ['TZ'] = 'nonsense/place'",
    "terminal that is not there": "os.environ.update(TERM='nonsense', COLUMNS='x', LINES='-1')",
    "streams in ASCII": "os.environ['PYTHONIOENCODING'] = 'ascii:strict'",
    "warnings as errors": "os.environ['PYTHONWARNINGS'] = 'error'",
    "code without docstrings": "os.environ['PYTHONOPTIMIZE'] = '2'",
    "development mode": "os.environ['PYTHONDEVMODE'] = '1'",
    "short integers only": "os.environ['PYTHONINTMAXSTRDIGITS'] = '640'",
    "a startup file that fails": "os.environ['PYTHONSTARTUP'] = '/nonexistent'",
    "threads that make no sense": "os.environ.update(OMP_NUM_THREADS='1,2', OPENBLAS_NUM_THREADS='x')",
    "a proxy": "os.environ.update(http_proxy='http://127.0.0.1:1', ALL_PROXY='socks5://127.0.0.1:1')",
    "OpenSSL without TLS 1.3": (
        "lines = ['openssl_conf=a', '[a]', 'ssl_conf=b', '[b]', 'system_default=c', '[c]', 'MaxProtocol=TLSv1.2']\n"
        "open('openssl.cnf', 'w').write('\\n'.join(lines))\n"
        "os.environ['OPENSSL_CONF'] = os.path.abspath('openssl.cnf')"
    ),
    "small stack": "resource.setrlimit(resource.RLIMIT_STACK, (2**20, 2**20))",
    "stack without limit": "resource.setrlimit(resource.RLIMIT_STACK, (-1, -1))",
    "no locked memory": "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))",
    "low priority": "os.nice(5)",  # at the lowest priority, it would time out beside other tests
    "one processor": "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
}

LOCAL_NETWORK = """
import sys
from pathlib import Path
from pconnect import start_local_network
with start_local_network(1) as net:
    results = net[1].eval("6 * 7").result(30), net.submit(pow, 2, 5).result(30)
Path(sys.argv[1]).write_text(str(results))
"""

CLIENT = """
import sys
from pathlib import Path
from pconnect import pconnect
with pconnect(sys.argv[2], user="alice", password="correct horse") as net:
    results = net[1].eval("6 * 7").result(30), net.submit(pow, 2, 5).result(30)
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
def test_a_local_network_works_whatever_it_inherits(state: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(LOCAL_NETWORK)
    done = run([sys.executable, str(tmp_path / "script.py"), str(tmp_path / "results")], state, tmp_path)
    assert (tmp_path / "results").read_text() == "(42, 32)", done.stderr
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_a_server_and_its_client_work_whatever_they_inherit(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_private_places(tmp_path, monkeypatch)
    add_user()
    pserver = [sys.executable, "-P", "-m", "pserver"]
    ports = ["--cmd-port", "0", "--data-port", "0", "--bind", "127.0.0.1", "--allow-root"]
    started = run([*pserver, "start", *ports], state, tmp_path)
    server = find_server("default")
    assert server is not None, started.stderr
    try:
        (tmp_path / "script.py").write_text(CLIENT)
        arguments = [str(tmp_path / "results"), f"127.0.0.1:{server.status['cmd_port']}"]
        done = run([sys.executable, str(tmp_path / "script.py"), *arguments], state, tmp_path)
        assert (tmp_path / "results").read_text() == "(42, 32)", done.stderr
    finally:
        subprocess.run([*pserver, "stop"], timeout=DEADLINE, check=True)
    assert started.stderr == done.stderr == ""
    assert find_server("default") is None

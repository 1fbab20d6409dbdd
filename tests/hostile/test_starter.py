"""The process that starts sessions dies, stops or lacks resources, or advisory work fails, without harm to others."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pconnect import ConfigurationError, ParallelError
from pconnect.views.network_views import ClientNetwork
from pserver.admin.control import start_server
from pserver.system.log_file import default_log
from pserver.system.pidfile import find_server
from tests.support.places import OPTIONS, add_user, config, use_private_places
from tests.support.servers import Server, engine_pids, open_files, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with run_server(tmp_path / "server") as started:
        yield started


def starter_of(server: Server) -> int:
    """Return the process number of the current starter, once it has loaded its modules."""
    [starter] = [
        int(child.pid)
        for child in psutil.Process(server.process.pid).children()
        if "starter" in " ".join(child.cmdline())
    ]
    return starter


def works(net: ClientNetwork) -> bool:
    """Check that commands, jobs and restarts work."""
    net[1:].eval("sockets.node").result(DEADLINE)
    before = engine_pids(net)[1]
    assert net.submit(abs, -3).result(DEADLINE) == 3
    net[1].restart()
    assert net.submit(abs, -4).result(DEADLINE) == 4
    return engine_pids(net)[1] != before


def test_it_is_killed(server: Server) -> None:
    with server.connect(2) as net:
        folder = str(net[1].eval("str(session_files)").result(DEADLINE))
        first = starter_of(server)
        os.kill(first, signal.SIGKILL)
        wait_gone(first)
        with server.connect(1) as other:
            assert works(other)
        assert works(net)
        assert Path(folder).is_dir()
        assert len(server.sessions(net)) == 1
        assert starter_of(server) != first
    wait_until(lambda: not Path(folder).exists(), "the folder to go with its session")


def test_it_is_stopped_for_a_while(server: Server) -> None:
    with server.connect(1) as net:
        starter = starter_of(server)
        os.kill(starter, signal.SIGSTOP)
        try:
            assert works(net)
            assert psutil.Process(server.process.pid).status() == psutil.STATUS_SLEEPING
        finally:
            os.kill(starter, signal.SIGCONT)
        with server.connect(1) as other:
            assert works(other)


def test_it_is_stopped_and_stays_so(server: Server) -> None:
    """The next logins get a new starter, each gets one session, and pending removals are done."""
    with server.connect(2) as net:
        folder = str(net[1].eval("str(session_files)").result(DEADLINE))
        first = starter_of(server)
        os.kill(first, signal.SIGSTOP)
        [session] = server.sessions(net)
        os.kill(session, signal.SIGKILL)
        begin = time.monotonic()
        with ThreadPoolExecutor() as pool:
            others = list(pool.map(lambda _: server.connect(1), range(3)))
        assert time.monotonic() - begin < 10  # about 1 s on an idle machine
        for other in others:
            with other:
                assert works(other)
                assert len(server.sessions(other)) == 1
        wait_gone(first)
        server.wait_for_log(f"({first}) is stopped: replacing it")
        wait_until(lambda: not Path(folder).exists(), "the folder of the killed session to go")


def test_it_has_no_room_for_descriptors(server: Server) -> None:
    with server.connect(1) as net:
        starter = starter_of(server)
        limits = resource.prlimit(starter, resource.RLIMIT_NOFILE)
        resource.prlimit(starter, resource.RLIMIT_NOFILE, (open_files(starter), limits[1]))
        with pytest.raises((ParallelError, OSError)):
            server.connect(1, timeout=3)
        resource.prlimit(starter, resource.RLIMIT_NOFILE, limits)
        with server.connect(1) as other:
            assert works(other)
        assert works(net)
        assert starter_of(server) == starter


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def test_temporary_files_are_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session whose private folder vanishes reports it; all others work, immediately and later."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with contextlib.ExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setenv("TMPDIR", str(temporary))
            server = stack.enter_context(run_server(tmp_path / "server"))
        with server.connect() as net:
            empty(temporary)
            with server.connect() as other:
                assert works(other)
            assert net[1].eval("6 * 7").result(DEADLINE) == 42
            with pytest.raises(ParallelError, match="folder of this session was removed; connect again"):
                net.restart()
        empty(temporary)
        with server.connect() as net:
            assert works(net)
    assert list(temporary.iterdir()) == []


def test_the_run_time_folder_is_removed(server: Server) -> None:
    run_time = server.folder / "pserver"
    paths = sorted(run_time.iterdir())
    # In one step, even if the server is just writing there.
    shutil.rmtree(run_time.rename(server.folder / "removed"))
    with server.connect(1) as net:  # which changes the status
        assert works(net)
        wait_until(
            lambda: run_time.exists() and sorted(run_time.iterdir()) == paths, "the files to be written again"
        )
        assert len(server.sessions(net)) == 1  # commands find the server again


def test_the_status_cannot_be_written(server: Server) -> None:
    """A file-size limit simulates a full disk: the same call fails in the same way, without filling a real disk."""
    daemon = server.process.pid
    limits = resource.prlimit(daemon, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon, resource.RLIMIT_FSIZE, (0, limits[1]))
    with server.connect(1) as net:
        assert works(net)
        resource.prlimit(daemon, resource.RLIMIT_FSIZE, limits)
        with server.connect(1) as other:
            assert works(other)
        wait_until(lambda: len(server.sessions(net)) == 1, "the status to be written again")


def test_warnings_that_are_to_be_errors_are_for_the_users_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing a module of tlslite causes a warning."""
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    with run_server(tmp_path / "server") as server, server.connect(1) as net:
        assert works(net)
        with pytest.raises(UserWarning, match="of the user"):
            net[1].eval("__import__('warnings').warn('of the user')").result(DEADLINE)
        with pytest.raises(UserWarning, match="of a job"):
            net.submit(warnings.warn, "of a job").result(DEADLINE)


def test_modules_are_found_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server in the background runs in another folder than the command that started it."""
    use_private_places(tmp_path, monkeypatch)
    add_user()
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "numpy.py").write_text("raise ImportError('no numpy today')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "modules")
    with pytest.raises(ConfigurationError, match="starts sessions ended on startup, with exit status 1"):
        start_server(config())
    assert "no numpy today" in default_log("default").read_text()
    assert find_server("default") is None


def test_a_server_with_too_few_descriptors_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_private_places(tmp_path, monkeypatch)
    add_user()
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 28; exec "$@"', "sh", sys.executable, "-m", "pserver", "start", *OPTIONS],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    assert "only 28 files, but a server needs at least 64; raise the limit (ulimit -Hn" in done.stderr
    assert find_server("default") is None


@contextlib.contextmanager
def bad_parent() -> Iterator[None]:
    """Act as a parent that ignores and blocks signals that servers need, and has a poor locale and umask."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGCHLD, signal.SIGUSR1)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    umask = os.umask(0)
    try:
        yield
    finally:
        os.umask(umask)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)


def test_its_parent_has_left_nothing_as_it_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    with contextlib.ExitStack() as stack:
        with bad_parent():
            server = stack.enter_context(run_server(tmp_path / "server"))
        with server.connect(1) as net:
            assert works(net)
            name = tmp_path / "ä"
            net[1].eval(f"__import__('pathlib').Path({str(name)!r}).write_text('€')").result(DEADLINE)
            assert name.read_text(encoding="utf-8") == "€"
            assert name.stat().st_mode & 0o777 == 0o644  # not 0666, as under the umask of that parent
            blocked = (
                net[1].eval("sorted(map(int, __import__('signal').pthread_sigmask(0, ())))").result(DEADLINE)
            )
            assert blocked == []
        server.process.terminate()
        assert server.process.wait(DEADLINE) == 0

"""Changes that a job makes in its process are undone before the next job, for each kind of change."""

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest

from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server, run_server

# Kind -> a job's code, and an expression for the state that the next job finds.
TRACES = {
    "current folder": ("os.chdir('/')", "os.getcwd()"),
    "a variable that is set": ("os.environ['TRACE'] = '1'", "sorted(os.environ.items())"),
    "a variable that is removed": ("del os.environ['PATH']", "sorted(os.environ.items())"),
    "a variable for child processes": (
        "os.environ.clear()",
        "sorted(subprocess.run(['/usr/bin/env'], capture_output=True).stdout.splitlines())",
    ),
    "another environment": ("os.environ = {}", "sorted(os.environ.items())"),
    "a path of modules": ("sys.path.insert(0, '/nowhere')", "sys.path"),
    "other paths of modules": ("sys.path = ['/nowhere']", "sys.path"),
    "standard output": ("sys.stdout = io.StringIO()", "type(sys.stdout).__name__"),
    "closed standard error": ("sys.stderr.close()", "sys.stderr.closed"),
    "closed standard input": ("sys.stdin = None", "type(sys.stdin).__name__"),
    "a warning filter": ("warnings.simplefilter('error')", "str(warnings.filters)"),
    "other warning filters": ("warnings.filters = []", "str(warnings.filters)"),
    "numpy's error state": ("np.seterr(all='raise')", "np.geterr()"),
    "numpy's print options": ("np.set_printoptions(precision=1)", "str(np.array([1 / 3]))"),
    "arguments of the program": ("sys.argv.append('x')", "sys.argv"),
    "other arguments": ("sys.argv = ['x']", "sys.argv"),
    "closed descriptor of input": ("os.close(0)", "os.fstat(0).st_rdev"),
    "replaced descriptor of output": ("os.dup2(2, 1)", "os.fstat(1).st_ino"),
    "hook for errors": ("sys.excepthook = print", "str(sys.excepthook)"),
    "hook for values": ("sys.displayhook = print", "str(sys.displayhook)"),
    "hook for breakpoints": ("sys.breakpointhook = print", "str(sys.breakpointhook)"),
    "hook for lost errors": ("sys.unraisablehook = print", "str(sys.unraisablehook)"),
    "how warnings are shown": ("warnings.showwarning = print", "str(warnings.showwarning)"),
    "threads' switch interval": ("sys.setswitchinterval(1)", "sys.getswitchinterval()"),
    "digits of integers": ("sys.set_int_max_str_digits(0)", "sys.get_int_max_str_digits()"),
    "profile function": ("sys.setprofile(lambda *_: None)", "sys.getprofile() is None"),
    "when garbage is collected": ("gc.set_threshold(1)", "gc.get_threshold()"),
    "time limit of sockets": ("socket.setdefaulttimeout(1)", "socket.getdefaulttimeout()"),
    "precision of decimals": ("decimal.getcontext().prec = 3", "str(decimal.Decimal(1) / 3)"),
    "locale": ("locale.setlocale(locale.LC_ALL, 'C')", "locale.setlocale(locale.LC_ALL)"),
    "umask": ("os.umask(0o777)", "os.umask(0)"),
    "a signal handler": (
        "signal.signal(signal.SIGUSR1, lambda *_: None)",
        "str(signal.getsignal(signal.SIGUSR1))",
    ),
    "an ignored signal": (
        "signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "'on_interrupt' in str(signal.getsignal(signal.SIGINT))",
    ),
    "a blocked signal": (
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])",
        "str(signal.pthread_sigmask(0, []))",
    ),
    "an alarm": ("signal.alarm(1)", "time.sleep(1.2)"),
    "a timer": ("signal.setitimer(signal.ITIMER_REAL, 0.1)", "time.sleep(0.3)"),
    "recursion limit": ("sys.setrecursionlimit(99)", "sys.getrecursionlimit()"),
    "trace function": ("sys.settrace(lambda *_: None)", "sys.gettrace() is None"),
    "garbage collection": ("gc.disable()", "gc.isenabled()"),
}


@pytest.fixture(scope="module")
def network(one_slot: Server) -> Any:
    """Yield a network with one worker, which runs all jobs."""
    with one_slot.connect() as net:
        net.eval(
            "import decimal, gc, io, locale, os, signal, socket, subprocess, sys, time, warnings; import numpy as np\n"
            "decimal.getcontext().rounding = decimal.ROUND_UP"  # all jobs inherit this context, a single object
        ).result(20)
        yield net


@pytest.mark.parametrize("kind", TRACES)
def test_the_next_job_finds_what_the_last_one_found(kind: str, network: ClientNetwork) -> None:
    change, look = TRACES[kind]
    run = "lambda code: exec(code, {**globals(), 'found': (found := {})}) or found"
    change, look = (
        f"found['pid'] = os.getpid()\n{change}",
        f"found['pid'] = os.getpid()\nfound['seen'] = {look}",
    )
    before = network.submit(run, look).result(20)
    changed = network.submit(run, change).result(20)
    after = network.submit(run, look).result(20)
    assert before["pid"] == changed["pid"] == after["pid"]
    assert after["seen"] == before["seen"]
    assert network.submit("print", "still here").exception(20) is None


def leave_a_trace(_: int) -> str | None:
    import os

    found = os.environ.get("TRACE")
    os.environ["TRACE"] = "1"
    return found


def by_executor(net: ClientNetwork, **options: Any) -> list[str | None]:
    with net.executor(**options) as executor:
        return list(executor.map(leave_a_trace, range(3)))


def by_pool(net: ClientNetwork) -> list[str | None]:
    with net.pool() as pool:
        return list(pool.map(leave_a_trace, range(3), chunksize=1))


def by_joblib(net: ClientNetwork) -> list[str | None]:
    with joblib.parallel_config("pserver", network=net):
        return list(joblib.Parallel(batch_size=1)(joblib.delayed(leave_a_trace)(k) for k in range(3)))


@pytest.mark.parametrize(
    "run",
    [
        lambda net: [net.submit(leave_a_trace, k).result(20) for k in range(3)],
        lambda net: list(net.map(leave_a_trace, range(3))),
        lambda net: list(net.pmap(leave_a_trace, range(3), uniform_output=False)),
        by_executor,
        lambda net: by_executor(net, isolate=True),
        by_pool,
        by_joblib,
    ],
    ids=["submit", "map", "pmap", "executor", "isolate", "pool", "joblib"],
)
def test_jobs_of_every_kind_find_nothing_of_others(
    run: Callable[[ClientNetwork], list[str | None]], network: ClientNetwork
) -> None:
    assert run(network) == [None] * 3
    assert network.submit(leave_a_trace, 0).result(20) is None


def test_a_folder_that_is_moved_is_the_same_folder(
    one_slot: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    monkeypatch.chdir(home)  # the engine's folder, too, on the same machine
    with one_slot.connect() as net:
        assert net.submit("__import__('os').getcwd").result(20) == str(home)
        home.rename(elsewhere)
        assert net.submit("lambda: __import__('os').chdir('/')").result(20) is None
        assert net.submit("__import__('os').getcwd").result(20) == str(elsewhere)
        monkeypatch.chdir(tmp_path)


_SPOIL = """lambda: [
    os.close(int(name)) for name in os.listdir("/proc/self/fd")
    if os.path.exists(f"/proc/self/fd/{name}") and os.readlink(f"/proc/self/fd/{name}") == os.getcwd()
]"""


def test_a_worker_that_cannot_be_restored_is_replaced_and_the_log_says_why(
    tmp_path: Path, users: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with run_server(tmp_path / "server", "--slots=1", users=users) as server, server.connect() as net:
        net.eval("import os").result(20)
        before = net.submit("os.getpid").result(20)
        assert net.submit(_SPOIL).result(20) == [None]  # its result is not lost
        jobs = [net.submit("os.getpid") for _ in range(3)]
        assert before not in {job.result(20) for job in jobs}
        assert sum(job.losses for job in jobs) == 0
        server.wait_for_log(f"replacing worker {before} after a job: cannot restore the current folder: ")


_MODULE = """
import os, sys, warnings
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "vendored"))
os.environ["TRACE_OF_A_MODULE"] = "1"
warnings.filterwarnings("ignore", message="of a module")

def look():
    import trace_vendored
    os.environ["TRACE_OF_A_JOB"] = "1"
    return os.environ["TRACE_OF_A_MODULE"], str(warnings.filters).count("of a module")

class Argument:
    pass
"""


@pytest.mark.parametrize("way", ["function", "argument", "joblib"])
def test_what_a_module_changes_when_it_is_imported_lasts(
    way: str, one_slot: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vendored").mkdir()
    (tmp_path / "vendored" / "trace_vendored.py").touch()
    name = f"module_with_traces_{way}"
    (tmp_path / f"{name}.py").write_text(_MODULE)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TRACE_OF_A_MODULE", "0")  # restore it afterwards
    with warnings.catch_warnings():
        module = importlib.import_module(name)
    with one_slot.connect() as net:
        net.eval(f"import sys; sys.path.insert(0, {str(tmp_path)!r})").result(20)
        for _ in range(3):
            if way == "function":
                seen = net.submit(module.look).result(20)
            elif way == "argument":
                seen = net.submit(f"lambda _: sys.modules[{name!r}].look()", module.Argument()).result(20)
            else:
                with joblib.parallel_config("pserver", network=net):
                    [seen] = joblib.Parallel()([joblib.delayed(module.look)()])
            assert seen == ("1", 1)
        assert net.submit("lambda: __import__('os').environ.get('TRACE_OF_A_JOB')").result(20) is None


def test_a_folder_that_was_removed_is_nobodys_fault(
    one_slot: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    with one_slot.connect() as net:
        assert net.submit(len, "x").result(20) == 1
        (tmp_path / "home").rmdir()
        assert [net.submit(len, "x").result(20) for _ in range(3)] == [1] * 3
        monkeypatch.chdir(tmp_path)

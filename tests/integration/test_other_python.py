"""A client and a server with different Pythons: functions travel as source text, or are refused before sending."""

import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest

from pconnect import ConfigurationError, Network, UnreadableValueError
from pconnect.versions import VersionWarning
from srp_tools.credentials import Credentials
from tests.support.pythons import other_python
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # making the environment takes long, but happens only once
    pytest.mark.filterwarnings(f"ignore::{VersionWarning.__module__}.VersionWarning"),
]
OWN = f"CPython {platform.python_version()}"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Yield a server with another Python."""
    with run_server(
        tmp_path_factory.mktemp("there"), "--slots=2", users=users, python=other_python()
    ) as running:
        yield running


@pytest.fixture
def net(there: Server) -> Iterator[Network]:
    with there.connect(1) as net:
        yield net


def doubled() -> Callable[[int], int]:
    factor = 2

    def twice(x: int, *, more: int = 0) -> int:
        return sum(factor * each for each in [x]) + more

    return twice


def by_joblib(net: Any, function: Any) -> list[Any]:
    with joblib.parallel_config("pserver", network=net, n_jobs=2):
        return list(joblib.Parallel()(joblib.delayed(function)(x) for x in [1, 2]))


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "apply": lambda net, f: [net[1].apply(f, x).result(DEADLINE) for x in [1, 2]],
    "submit": lambda net, f: [net.submit(f, x).result(DEADLINE) for x in [1, 2]],
    "map": lambda net, f: list(net.map(f, [1, 2])),
    "chunks": lambda net, f: list(net.map(f, [1, 2], chunksize=2)),
    "pmap": lambda net, f: net.pmap(f, [1, 2]).tolist(),
    "executor": lambda net, f: list(net.executor(isolate=True).map(f, [1, 2])),
    "pool": lambda net, f: net.pool().map(f, [1, 2]),
    "in arguments": lambda net, f: (
        net[1].apply("lambda fs: [fs[0](x) for x in [1, 2]]", [f]).result(DEADLINE)
    ),
    "in a job's": lambda net, f: net.submit("lambda fs: [fs[0](x) for x in [1, 2]]", [f]).result(DEADLINE),
    "push": lambda net, f: net.push({"f": f}) or net[1].eval("[f(1), f(2)]").result(DEADLINE),
    "joblib": by_joblib,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("function", [lambda x: x * 2, doubled()])
def test_functions_run_there(net: Network, way: str, function: Any) -> None:
    assert WAYS[way](net, function) == [2, 4]


@pytest.mark.parametrize("way", WAYS)
def test_what_has_no_source_is_refused_and_nothing_dies(net: Any, way: str) -> None:
    function = eval("lambda x: x * 2")
    with pytest.raises(Exception, match="<lambda>") as raised:
        WAYS[way](net, function)
    error: Any = raised.value if isinstance(raised.value, ConfigurationError) else raised.value.__cause__
    assert isinstance(error, ConfigurationError)
    told = net[1].eval("import platform; platform.python_version()").result(DEADLINE)
    words = str(error)
    assert f"node 1 ({net[1].host}) has CPython {told}, and the client has {OWN}. " in words
    assert "(line 1 of <string>) is not available" in words and "sync_code" in words


def test_only_where_it_matters(there: Server, server: Server) -> None:
    function = eval("lambda x: x * 2")
    with connect([server, there]) as net:
        assert net[1].apply(function, 1).result(DEADLINE) == 2
        assert net[1].submit(function, 1).result(DEADLINE) == 2
        for send in (net.apply, net[2].apply):
            with pytest.raises(ConfigurationError, match=r"cannot be sent: node 2 \("):
                send(function, 1)
        assert net.apply(lambda x: x * 2, 1).result(DEADLINE) == [2, 2]


def test_byte_code_does_not_come_back(net: Any) -> None:
    words = r"byte code of Python 3\.\d+ and cannot run in Python 3\."
    with pytest.raises(UnreadableValueError, match=words):
        list(net.map("lambda _: (lambda: 1)", [1], allow_pickle=True))
    with pytest.raises(Exception, match=words):
        net[1].eval("lambda: 1", allow_pickle=True).result(DEADLINE)
    assert list(net.map("lambda x: {complex: x}", [1], allow_pickle=True)) == [{complex: 1}]


def test_dask_is_refused(net: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"node 1 \(.*\) has CPython 3\..* crashes other versions of Python"
    ):
        net.dask(timeout=DEADLINE)


def test_a_traceback_shows_the_line(net: Any) -> None:
    def fails() -> float:
        return 1 / 0  # here

    with pytest.raises(ZeroDivisionError, match=r"test_other_python\.py[^\n]*\n +return 1 / 0  # here"):
        net[1].apply(fails).result(DEADLINE)


PROGRAM = """
import sys, warnings
import math
warnings.simplefilter("ignore")
from pconnect import pconnect
SCALE = 2

def helper(x):
    return math.floor(x) * SCALE

def uses(x):
    return helper(x + 0.5) if x else uses(1)

class Model:
    def __init__(self, scale):
        self.scale = scale
    def __call__(self, x):
        return self.scale * x

host, user, password = sys.argv[1:]
with pconnect([host], user=user, password=password, timeout=60) as net:
    print(list(net.map(uses, [0, 1, 2])), list(net.map(Model(3), [1, 2])), net.apply(lambda: SCALE).result())
"""


@pytest.mark.parametrize(
    "begin", ["", "from IPython.core.interactiveshell import InteractiveShell as Shell\n"]
)
def test_a_script_and_a_notebook(there: Server, tmp_path: Path, begin: str) -> None:
    text = begin + f"Shell().run_cell({PROGRAM!r}).raise_error()\n" if begin else PROGRAM
    assert run_program(sys.executable, there, tmp_path, text) == "[2, 2, 4] [3, 6] [2]\n"


def test_a_client_of_the_other_version(server: Server, tmp_path: Path) -> None:
    assert run_program(other_python(), server, tmp_path, PROGRAM) == "[2, 2, 4] [3, 6] [2]\n"


def run_program(python: str | Path, server: Server, folder: Path, text: str) -> str:
    path = folder / "program.py"
    path.write_text(text)
    arguments = [server.host, server.credentials.user, server.credentials.password]
    done = subprocess.run(
        [python, path, *arguments], capture_output=True, text=True, timeout=DEADLINE, cwd=folder, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout

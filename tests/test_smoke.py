"""The smoke part: an installed package works, started as users start it.

This file needs pytest and the installed packages, nothing else of the source tree: `.ci/run` copies it out, and runs it
under every Python that it finds and on the built wheel.
"""

import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pconnect
from pconnect import AuthenticationError, local_network, precv, psend, reval
from pconnect.views.network_views import ClientNetwork

LIMIT = 30.0  # seconds; nothing here takes three, even on a busy machine
PACKAGES = ("srp_tools", "pconnect", "pserver")
# Packages of the extras: a module may fail to import here because one of them is missing.
EXTRAS = {
    "IPython", "dask", "distributed", "ipykernel", "jax", "joblib", "matplotlib", "ml_dtypes", "pandas", "polars",
    "prometheus_client", "pyarrow", "scipy", "sklearn", "starlette", "torch", "tornado", "tqdm", "uvicorn", "xarray",
}  # fmt: skip
BIN = Path(sys.executable).parent


def run(*command: str) -> str:
    """Run one of this installation's two commands and return its output."""
    path = BIN / command[0]
    return subprocess.run(
        [path, *command[1:]], check=True, capture_output=True, text=True, timeout=LIMIT
    ).stdout


def modules() -> list[str]:
    found = []
    for package in map(importlib.import_module, PACKAGES):
        found += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [name for name in found if not name.endswith("__main__")]


def test_every_module_can_be_imported() -> None:
    """Every module is imported: one that is missing in the wheel, or does not compile under this Python, fails here."""
    names = modules()
    assert len(names) > 100
    for name in names:
        if name.endswith(".jax_arrays"):
            continue  # JAX warns of each fork once it is imported; its tests run in a separate process
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            assert error.name is not None, f"{name}: {error}"
            assert error.name.split(".")[0] in EXTRAS, f"{name}: {error}"


def test_every_public_name_is_there() -> None:
    for package in map(importlib.import_module, PACKAGES):
        missing = [name for name in getattr(package, "__all__", ()) if not hasattr(package, name)]
        assert missing == [], package.__name__
        assert (Path(str(package.__file__)).parent / "py.typed").exists()


@pytest.mark.parametrize("command", ["pserver", "generate-srp-data", "prun", "pshadow", "pstat"])
def test_the_commands_explain_themselves(command: str) -> None:
    assert run(command, "--help").startswith(f"usage: {command}")


# Python options that show every fault or save memory: our code must work with all of them.
STRICT = [["-W", "error"], ["-X", "dev", "-W", "error"], ["-OO", "-W", "error"]]
EVERY_NAME = """
import pconnect, pserver, srp_tools
for package in (pconnect, pserver, srp_tools):
    for name in getattr(package, "__all__", ()):
        getattr(package, name)
"""
A_NETWORK = """
import gc
with pconnect.local_network(2) as net:
    if net.eval("sockets.node").result(30) != [1, 2]: raise SystemExit("eval")
    if net.submit(pow, 2, 10).result(30) != 1024: raise SystemExit("job")
    if list(net.map(abs, range(-5, 0))) != [5, 4, 3, 2, 1]: raise SystemExit("map")
del net
gc.collect()
"""
LEFT_OPEN = """
net = pconnect.start_local_network(2)
if net.submit(pow, 2, 10).result(30) != 1024: raise SystemExit("job")
busy = net[1].eval("__import__('time').sleep(60)")
"""


def run_strictly(options: list[str], program: str, folder: Path) -> None:
    """Run a program that must succeed without any output."""
    environment = os.environ | {"TMPDIR": str(folder)}
    command = [sys.executable, *options, "-c", program]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=2 * LIMIT, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(folder.iterdir()) == []  # no private server has left anything behind


@pytest.mark.parametrize("options", STRICT, ids=" ".join)
def test_no_warning_of_an_import_or_of_a_network_is_ours(options: list[str], tmp_path: Path) -> None:
    run_strictly(options, EVERY_NAME + A_NETWORK, tmp_path)


@pytest.mark.parametrize("options", STRICT, ids=" ".join)
def test_a_program_that_leaves_its_private_server_open_ends_silently(
    options: list[str], tmp_path: Path
) -> None:
    run_strictly(options, EVERY_NAME + LEFT_OPEN, tmp_path)


def test_a_test_suite_that_makes_errors_of_warnings_imports_it(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_it.py").write_text(
        EVERY_NAME
        + "def test_it():\n    with pconnect.local_network(1) as net: assert net.eval('1').result(30) == [1]\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        check=False, capture_output=True, text=True, timeout=2 * LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Make a user and start a server with the README's commands; yield its address twice."""
    for variable in ("PSERVER_RUNTIME_DIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        folder = tmp_path / variable
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(folder))
    run("generate-srp-data", "alice", "--random", "--bits=2048")
    options = ("--bind=127.0.0.1", "--cmd-port=0", "--data-port=0", "--allow-root", "--slots=2")
    started = run("pserver", "start", *options)
    try:
        port = started.split("command port ")[1].split(",")[0]
        yield [f"127.0.0.1:{port}"] * 2
    finally:
        run("pserver", "stop")


def test_a_server_of_a_user(hosts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "default" in run("pserver", "status")
    with pconnect.pconnect(hosts, timeout=LIMIT) as net:
        check_messages(net)
        check_jobs(net)
        check_files(net, tmp_path)
    monkeypatch.setenv("PCONNECT_HOSTS", " ".join(hosts))
    check_programs()
    with pytest.raises(AuthenticationError):
        pconnect.pconnect(hosts, user="alice", password="a wrong one", timeout=LIMIT)


def check_programs() -> None:
    try:
        assert run("prun", "echo", "a  b") == "a  b\n"
        assert run("prun-ssh", "localhost", "echo", "$((1 + 1))") == "2\n"
        assert "echo" in run("prun", "--report")
    finally:
        assert run("prun", "--agent", "stop") == "the agent is stopping\n"


def check_messages(net: ClientNetwork) -> None:
    command = reval("a = precv(sockets[0], timeout=30); psend(a.sum(), sockets[0])", net)
    psend(np.arange(10), net, timeout=LIMIT)
    assert [int(precv(connection, timeout=LIMIT)) for connection in net[1:]] == [45, 45]
    command.result(LIMIT)
    with pytest.raises(ZeroDivisionError, match="node 2"):
        reval("1 / 0", net[2]).result(LIMIT)


def check_jobs(net: ClientNetwork) -> None:
    with net.executor() as executor:
        assert executor.submit(pow, 2, 10).result(LIMIT) == 1024
        assert list(executor.map(lambda x: x * x, range(20), timeout=LIMIT)) == [x * x for x in range(20)]
        job = executor.submit(int, "no number")
        with pytest.raises(ValueError, match="no number"):
            job.result(LIMIT)
        assert isinstance(job.exception(LIMIT), ValueError)
        assert executor.submit(np.arange, 5).result(LIMIT).tolist() == [0, 1, 2, 3, 4]


def check_files(net: ClientNetwork, folder: Path) -> None:
    here, there, back = folder / "here", folder / "there", folder / "back"
    here.mkdir()
    (here / "data").write_bytes(bytes(range(256)) * 1000)
    net[1].put(here, there)
    net[1].get(there, back)
    assert (back / "data").read_bytes() == (here / "data").read_bytes()


def test_a_private_server() -> None:
    with local_network(1) as net:
        reval("x = sum(range(10)); psend(x, sockets[0])", net)
        assert precv(net[1], timeout=LIMIT) == 45

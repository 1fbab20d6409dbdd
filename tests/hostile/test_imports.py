"""Modules that someone has put into the user's folder do not run, neither when values arrive nor otherwise."""

import os
import subprocess
import sys
import warnings
import zoneinfo
from pathlib import Path

import pytest

from pconnect import restart
from tests.support.servers import Server
from tests.support.waiting import DEADLINE

PACKAGES = [
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "matplotlib",
    "IPython",
    "tqdm",
    "nh3",
    "gmpy2",
    "msgpack",
    "cloudpickle",
    "tlslite",
    "cryptography",
    "psutil",
    "dask",
    "distributed",
    "joblib",
    "threadpoolctl",
    "dateutil",
    "pytz",
    "tzdata",
    "six",
    "ecdsa",
    "jinja2",
    "numexpr",
    "bottleneck",
]
PLANTED = """
import traceback
with open({marks!r}, "a") as file:
    file.write(__name__ + "\\n" + "".join(traceback.format_stack()))
raise ImportError("planted")
"""


def plant(folder: Path, names: list[str]) -> Path:
    """Put modules into a folder; return the file that lists the ones that have run."""
    marks = folder / "marks"
    for name in names:
        (folder / f"{name}.py").write_text(PLANTED.format(marks=str(marks)))
    return marks


def said(marks: Path) -> str:
    return marks.read_text() if marks.exists() else ""


@pytest.mark.parametrize("local_links", [True, False])
def test_on_the_server(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_links: bool
) -> None:
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    sparse = pytest.importorskip("scipy.sparse")
    # Modules of Python that cannot be loaded in advance would run where the test's own command imports them.
    stdlib = [name for name in sys.stdlib_module_names if not name.startswith("_") and name != "traceback"]
    marks = plant(tmp_path, [*PACKAGES, *stdlib, "encodings"])
    monkeypatch.chdir(tmp_path)
    values = {
        "frame": pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
        "table": pyarrow.table({"a": [1, 2]}),
        "matrix": sparse.csr_array([[1, 0], [0, 2]]),
        "zone": zoneinfo.ZoneInfo("UTC"),
    }
    with server.connect(2, local_links=local_links) as net:
        for name, value in values.items():
            net.push({name: value})
            assert type(net.pull(name)[0]) is type(value)
            assert type(net.submit(lambda given: given, value).result(DEADLINE)) is type(value)
        with pytest.raises(ZeroDivisionError):
            net[1].eval("1 / 0").result(DEADLINE)
        restart(net[1], timeout=DEADLINE)
        assert net.eval("1").result(DEADLINE) == [1, 1]
    assert said(marks) == ""


CLIENT = """
import sys
assert sys.path[0] == ""
from pconnect import pconnect, precv, reval
host, user, password = sys.argv[1:]
with pconnect([host], user=user, password=password, timeout=40) as net:
    reval("import sys; sys.path.remove(''); import pandas; psend(pandas.DataFrame({'a': [1]}), sockets[0])", net)
    print(type(precv(net[1], timeout=40)).__name__)
"""


def test_on_the_client(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    marks = plant(tmp_path, PACKAGES)
    client = subprocess.run(
        [sys.executable, "-c", CLIENT, server.host, server.credentials.user, server.credentials.password],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        cwd=tmp_path,
        env=os.environ | {"PYTHONSAFEPATH": ""},
        check=False,
    )
    assert said(marks) == ""
    assert (client.stdout, client.stderr) == ("DataFrame\n", "")


@pytest.mark.parametrize(("mode", "warns"), [(0o777, True), (0o1777, True), (0o755, False), (0o700, False)])
def test_a_folder_that_others_may_write_is_told_of(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, warns: bool
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.chdir(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        with server.connect() as net:
            assert net.eval("1").result(DEADLINE) == [1]
    told = f"other accounts may put files into {folder}"
    assert any(told in str(warning.message) for warning in caught) == warns

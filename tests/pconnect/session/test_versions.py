"""Which differences cause a warning, and the display of version tables; the far ends are scripted."""

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import (
    ConfigurationError,
    Network,
    RemoteError,
    VersionWarning,
    network_get_info,
    pconnect,
    reval,
)
from pconnect.session import versions as module
from pconnect.session.versions import (
    PACKAGES,
    Versions,
    check_versions,
    foreign_pythons,
    own_versions,
    versions,
)
from tests.support.links import FakeServer, client_of
from tests.support.servers import Server


@pytest.fixture
def client() -> Iterator[tuple[Network, list[FakeServer]]]:
    with client_of(3) as made:
        yield made


Client = tuple[Network, list[FakeServer]]


def tell(far: FakeServer, **facts: Any) -> None:
    """Give a node the client's versions, except some."""
    own = own_versions()
    packages = own["packages"] | {name: facts.pop(name) for name in PACKAGES if name in facts}
    far.server.facts = {**own, **facts, "packages": packages}


def warned(net: Network) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_versions(net)
    assert all(warning.category is VersionWarning for warning in caught)
    return [str(warning.message) for warning in caught]


def test_equal_versions_and_silent_nodes_are_no_reason(client: Client) -> None:
    net, far = client
    tell(far[0])
    far[2].server.facts = {"packages": 5, "python": None, "version": [1]}
    assert warned(net) == []


def test_nodes_with_other_byte_code(client: Client) -> None:
    _, far = client
    tell(far[0], python=re.sub(r"\d+$", "99", own_versions()["python"]))
    tell(far[1], python="3.99.1")
    tell(far[2], implementation="PyPy")
    python = own_versions()["python"]
    assert foreign_pythons(each.server for each in far) == {
        2: f"node 2 ({far[1].server.host}) has CPython 3.99.1",
        3: f"node 3 ({far[2].server.host}) has PyPy {python}",
    }
    far[1].server.facts = {"python": [3]}
    far[2].server.facts = {}
    assert foreign_pythons(each.server for each in far) == {}


@pytest.mark.parametrize(
    "facts",
    [
        {"python": re.sub(r"\d+$", "99", own_versions()["python"])},
        {"numpy": own_versions()["numpy"] + ".1"},
        {"pandas": None},
        {"scipy": "0.1", "msgpack": "0.1", "matplotlib": "0.1"},
        {"libc": "glibc 2.0", "machine": "vax", "system": "Plan 9"},
    ],
)
def test_differences_that_do_not_matter(client: Client, facts: dict[str, Any]) -> None:
    net, far = client
    tell(far[0], **facts)
    assert warned(net) == []


@pytest.mark.parametrize(
    ("name", "facts", "cell"),
    [
        ("Python", {"python": "3.99.7"}, "CPython 3.99.7"),
        ("Python", {"implementation": "PyPy"}, f"PyPy {own_versions()['python']}"),
        ("pserver", {"version": "0.0.9"}, "0.0.9"),
        ("byte order", {"byte_order": "big"}, "big"),
        ("numpy", {"numpy": "1.26.4"}, "1.26.4"),
        ("pandas", {"pandas": "1.5"}, "1.5"),
        ("pyarrow", {"pyarrow": "1.0"}, "1.0"),
        ("cloudpickle", {"cloudpickle": "99.0"}, "99.0"),
    ],
)
def test_each_difference_that_matters(client: Client, name: str, facts: dict[str, Any], cell: str) -> None:
    net, far = client
    for server in far:
        tell(server)
    tell(far[1], **facts)
    (text,) = warned(net)
    _, headings, row, *_ = text.splitlines()
    assert re.split(" {2,}", headings) == ["", "nodes 0-1, 3", "2 host2", "may affect"]
    assert re.split(" {2,}", row)[0] == name
    assert re.split(" {2,}", row)[2] == cell
    assert headings.index("2 host2") == row.index(cell)
    assert len(text.splitlines()) == 4


def test_one_warning_has_all_that_differs_also_among_engines(client: Client) -> None:
    net, far = client
    tell(far[0], python="3.99.1", numpy="1.0", pandas=None)
    tell(far[1], python="3.99.1", numpy="3.0", pandas="99.0")
    tell(far[2], python="3.98.1", numpy="3.0")
    (text,) = warned(net)
    lines = text.splitlines()
    assert re.split(" {2,}", lines[1]) == ["", "client", "1 host1", "2 host2", "3 host3", "may affect"]
    assert [line.split()[0] for line in lines[2:-1]] == ["Python", "numpy", "pandas"]
    assert re.split(" {2,}", lines[4])[2:4] == ["-", "99.0"]


def test_text_from_a_server_stays_in_its_cell(client: Client) -> None:
    net, far = client
    tell(far[0], python="3.99\n\n[forged] all is well" + 1000 * "!")
    (text,) = warned(net)
    assert len(text.splitlines()) == 4
    assert len(text) < 500


def test_the_table_marks_and_escapes() -> None:
    told = Versions(
        {
            0: {"a": "1", "b": "2"},
            1: {"a": "1", "b": "<3>"},
            2: {"a": "1", "b": None},
            3: {"a": "1", "b": None},
        },
        {1: "alpha & co", 2: "beta", 3: "gamma"},
    )
    assert told.differing == ["b"]
    assert str(told).splitlines() == [
        "      client  1 alpha & co  nodes 2-3",
        "   a  1       1             1",
        "*  b  2       <3>           -",
    ]
    assert repr(told) == str(told)
    assert told._repr_html_() == (
        "<table><thead><tr><th></th><th></th><th>client</th><th>1 alpha &amp; co</th><th>nodes 2-3</th></tr></thead>"
        "<tbody>"
        "<tr><td></td><td>a</td><td>1</td><td>1</td><td>1</td></tr>"
        "<tr><td>*</td><td>b</td><td>2</td><td>&lt;3&gt;</td><td>-</td></tr></tbody></table>"
    )


@pytest.fixture
def fake_package(tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that makes a folder in which a package seems to be installed."""

    def make(name: str, version: str) -> Path:
        folder = tmp_path / version
        information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        information.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (information / "METADATA").write_text(text)
        return folder

    return make


def test_engines_are_asked(server: Server, fake_package: Callable[[str, str], Path]) -> None:
    with server.connect(2) as net:
        for node in (1, 2):
            folder = str(fake_package("made-up", f"{node}.0"))
            reval(f"import sys; sys.path.insert(0, {folder!r})", net[node]).result(20)
        told = versions(net, ["made-up", "numpy"])
        numpy = own_versions()["numpy"]
        assert told.table == {
            0: {"made-up": None, "numpy": numpy},
            1: {"made-up": "1.0", "numpy": numpy},
            2: {"made-up": "2.0", "numpy": numpy},
        }
        assert told.differing == ["made-up"]
        assert list(versions(net[2], ["made-up"]).table) == [2]
        assert list(versions(net[1:]).table) == [1, 2]
        reval("import time; time.sleep(3)", net[1])
        with pytest.raises(TimeoutError):
            versions(net[1:], ["x"], timeout=0.1)


def test_by_default_everything_that_matters_is_reported(server: Server) -> None:
    with server.connect(1) as net:
        told = versions(net)
        info = network_get_info(net)[1]
    assert told.table[0] == told.table[1]
    assert list(told.table[1]) == ["Python", "pserver", "system", "libc", "byte order", *PACKAGES]
    assert told.table[1]["Python"] == f"{sys.implementation.name.replace('cp', 'CP')} {info['python']}"
    assert told.table[1]["byte order"] == sys.byteorder
    assert told.table[1]["numpy"] == info["numpy"]
    assert told.differing == []
    assert "nodes 0-1" in str(told)
    assert "packages" not in info  # network_get_info keeps its keys


def test_it_is_for_the_client(server: Server) -> None:
    with (
        server.connect(1) as net,
        pytest.raises(RemoteError, match="an engine cannot send commands") as error,
    ):
        reval("from pconnect.session.versions import versions; versions(sockets)", net).result(20)
    assert isinstance(error.value, ConfigurationError)


def test_connecting_warns_once_and_the_warning_can_be_disabled(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {**own_versions(), "python": "3.99.1"}
    monkeypatch.setattr(module, "own_versions", lambda: other)
    with pytest.warns(VersionWarning, match=r"CPython 3\.99\.1") as caught, server.connect(2):
        pass
    assert len(caught) == 1
    assert caught[0].filename.endswith("servers.py")  # the caller of `pconnect`
    with server.connect(1, check_versions=False):
        pass
    with pytest.raises(VersionWarning):  # the tests turn warnings into errors; no connection stays open
        pconnect(server.host, user=server.credentials.user, password=server.credentials.password)

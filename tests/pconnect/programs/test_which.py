"""Programs on real nodes with different ``PATH`` variables."""

import os
from pathlib import Path

import pytest

from pconnect import ConfigurationError, reval
from pconnect.programs.which import ProgramsThere, which
from pconnect.session.versions import VersionWarning
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


def make(folder: Path, version: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / "made-up"
    path.write_text(f"#!/bin/sh\necho made-up {version}\n")
    path.chmod(0o755)


def set_path(net: ClientNetwork, node: int, folder: Path) -> None:
    path = f"{folder}:{os.environ['PATH']}"
    reval(f"import os; os.environ['PATH'] = {path!r}", net[node]).result(DEADLINE)


def test_nodes_tell_path_version_and_file(server: Server, tmp_path: Path) -> None:
    with server.connect(2) as net:
        for node in (1, 2):
            make(tmp_path / str(node), f"{node}.0")
            set_path(net, node, tmp_path / str(node))
        with pytest.warns(VersionWarning, match="not the same on all nodes: made-up\nprogram ") as caught:
            there = net.which("made-up", "sh", timeout=DEADLINE)
        assert caught[0].filename == __file__
        assert [there.table[node]["made-up"] and there.table[node]["made-up"][:2] for node in (0, 1, 2)] == [  # type: ignore[index]
            None,
            (f"{tmp_path}/1/made-up", "made-up 1.0"),
            (f"{tmp_path}/2/made-up", "made-up 2.0"),
        ]
        assert there.table[0]["sh"] == there.table[1]["sh"] == there.table[2]["sh"] is not None
        assert (there.differing, there.missing) == (["made-up"], [])
        assert list(net[2].which("made-up").table) == [2]
        # The same file in another folder is the same program.
        make(tmp_path / "2", "1.0")
        assert not net.which("made-up").warning
        (tmp_path / "1" / "made-up").unlink()
        with pytest.warns(VersionWarning, match="not on all nodes: made-up"):
            net[1:].which("made-up")


def test_something_has_to_be_asked_for(server: Server) -> None:
    with server.connect(1) as net:
        with pytest.raises(ConfigurationError, match="needs the name of a program"):
            net.which()
        reval("import time; time.sleep(3)", net)
        with pytest.raises(TimeoutError):
            which(net, ["sh"], timeout=0.1)


def test_it_prints_as_a_table() -> None:
    found = ("/bin/a", "a 1", bytes(range(32)))
    there = ProgramsThere({0: {"a": None}, 2: {"a": found}}, {0: "here", 2: "alpha"})
    assert str(there).splitlines() == [
        "program  node  host    path       version  sha256",
        "a           0  client  not found",
        "a           2  alpha   /bin/a     a 1      000102030405",
    ]
    assert "<td>/bin/a</td>" in there._repr_html_()
    assert there.warning == ""  # the client needs none
    assert ProgramsThere({1: {"a": None}, 2: {"a": found}}, {}).warning == "not on all nodes: a"

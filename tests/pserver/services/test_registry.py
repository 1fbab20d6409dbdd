"""The table of services, without an engine process, and in an engine whose user has reassigned every name."""

import re
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from pconnect import ProtocolError, RemoteError, UnknownServiceError, reval
from pconnect.session.remote_calls import call_service
from pconnect.session.versions import own_versions
from pserver.services.dask_processes import DaskProcesses
from pserver.services.files import SessionFiles
from pserver.services.registry import SERVICES, EngineState, call
from pserver.services.synced_code import SyncedCode
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


@pytest.fixture
def names() -> dict[str, Any]:
    return {"a": 1, "b": [2]}


@pytest.fixture
def engine(tmp_path: Path, names: dict[str, Any]) -> EngineState:
    files = SessionFiles(tmp_path, 0)
    return EngineState(names, files, SyncedCode(files, []), DaskProcesses(files), "9.9", 1)


def test_the_workspace_is_changed_and_told(engine: EngineState, names: dict[str, Any]) -> None:
    call(engine, "workspace.update", [{"c": "3"}])
    assert names["c"] == "3"
    assert call(engine, "workspace.pull", ["b"]) == [2]
    assert call(engine, "workspace.pull", [["c", "a", "len"]]) == ["3", 1, len]
    assert [row[0] for row in call(engine, "workspace.describe", [])] == ["a", "b", "c"]
    assert call(engine, "workspace.complete", ["", 2]) == ["a", "b"]
    with pytest.raises(NameError, match="name 'd' is not defined"):
        call(engine, "workspace.pull", [["a", "d"]])


def test_the_page_of_the_protocol_has_all_services() -> None:
    page = (Path(__file__).parents[3] / "doc" / "protocol.md").read_text(encoding="utf-8")
    section = page.partition("\n## Services\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(.*?)` \|", section, re.MULTILINE) == list(SERVICES)


def test_only_results_are_read(engine: EngineState, tmp_path: Path) -> None:
    (tmp_path / "secret-1").write_bytes(b"secret")
    assert call(engine, "results.kept", ["job", 1]) is None
    for kind, number in [("../secret", 1), (["job"], 1), ("job", "1/../../secret-1")]:
        with pytest.raises((ProtocolError, ValueError)):
            call(engine, "results.kept", [kind, number])


def test_an_unknown_name_is_an_error_with_both_versions(engine: EngineState) -> None:
    with pytest.raises(
        UnknownServiceError, match=r"no service 'files\.burn'.*pserver .*the client 9\.9"
    ) as error:
        call(engine, "files.burn", [])
    assert f"pserver {own_versions()['version']}," in str(error.value)
    assert isinstance(error.value, LookupError)


def test_an_unknown_name_fails_its_command_and_no_other(server: Server) -> None:
    with server.connect(1) as net:
        unknown = call_service("no.such", [1], net[1])
        with pytest.raises(UnknownServiceError, match=r"in command 'no\.such\(\.\.\.\)'") as error:
            unknown.result(DEADLINE)
        assert isinstance(error.value, RemoteError)
        assert f"pserver {own_versions()['version']}, the client {own_versions()['version']}" in str(
            error.value
        )
        assert net[1].eval("1").result(DEADLINE) == 1


def test_a_service_is_a_command(server: Server) -> None:
    with server.connect(1) as net:
        reval("import time; time.sleep(0.5); x = 1", net)  # in order
        names = call_service("workspace.describe", [], net[1], shown_as="all names")
        assert names.source == "all names" and not names.done()
        assert [row[:2] for row in names.result(DEADLINE)] == [["x", "int"]]
        reval("time.sleep(60)", net)  # cancelled before it begins
        late = call_service("workspace.update", [{"x": 2}], net[1], wants_value=False)
        late.cancel()
        net.interrupt()
        with pytest.raises(CancelledError):
            late.result(DEADLINE)
        assert net.pull("x", timeout=DEADLINE) == [1]
        with pytest.raises(RemoteError, match=r"in command 'files\.put\(\.\.\.\)'(?s:.*)begin again"):
            call_service("files.put", [b"token", [], []], net[1]).result(DEADLINE)
        with pytest.raises(TypeError):
            call_service("files.put", [], net[1]).result(DEADLINE)


def test_arguments_that_are_no_values_go_by_pickle(server: Server) -> None:
    with server.connect(1) as net:
        call_service("workspace.update", [{"kind": complex}], net[1], wants_value=False).result(DEADLINE)
        assert net[1].eval("kind(1, 2)").result(DEADLINE) == 1 + 2j

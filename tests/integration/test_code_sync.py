"""The client's code on real engines: edited, deleted, sent along, and removed with the session."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import EngineDiedError, Network, RemoteError, precv, reval, rfeval, sclose
from pconnect.files import code_sync
from pconnect.files.code_sync import sync_code
from pconnect.session.remote_calls import call_service
from tests.support.servers import Server, connect, engine_pids
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(scope="module")
def shared(server: Server) -> Iterator[Network]:
    with server.connect(2) as net:
        yield net


@pytest.fixture
def net(shared: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    """Yield engines whose own directory has none of the client's files."""
    monkeypatch.chdir(tmp_path)
    return shared


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def evaluate(net: Network, source: str) -> list[Any]:
    """Return the value of an expression on each engine."""
    *statements, expression = source.split("; ")
    reval("; ".join([*statements, f"psend(({expression}), sockets[0])"]), net).result(DEADLINE)
    return [precv(connection, timeout=DEADLINE) for connection in net if not connection.is_own]


def test_edit_and_sync_again_within_a_second(net: Network, tmp_path: Path) -> None:
    path = write(tmp_path, {"waves_a.py": "height = 0"}) / "waves_a.py"
    reval("import sys; sys.dont_write_bytecode = False", net).result(DEADLINE)
    for height in range(5):
        path.write_text(f"height = {height}")
        os.utime(path, (1, 1))
        assert sync_code(path, net, timeout=DEADLINE) == ["waves_a.py"]
        assert evaluate(net, "import waves_a; waves_a.height") == [height] * 2
    assert sync_code(path, net, timeout=DEADLINE) == []


def test_what_was_imported_stays_what_it_was_until_it_is_imported_again(net: Network, tmp_path: Path) -> None:
    path = write(tmp_path, {"waves_b.py": "class Wave: height = 1"}) / "waves_b.py"
    sync_code(path, net, timeout=DEADLINE)
    reval("from waves_b import Wave; wave = Wave()", net).result(DEADLINE)
    path.write_text("class Wave: height = 2")
    sync_code(path, net, timeout=DEADLINE)
    assert evaluate(net, "wave.height, Wave.height") == [(1, 1)] * 2
    assert evaluate(net, "from waves_b import Wave; wave.height, Wave.height") == [(1, 2)] * 2


def test_a_package_with_all_it_has(net: Network, tmp_path: Path) -> None:
    read = "import importlib.resources as r\ntext = (r.files(__name__) / 'data' / 'depths.txt').read_text()\n"
    files = {"__init__.py": "from ocean.deep import text", "deep/__init__.py": read}
    files |= {"deep/data/depths.txt": "4000", "deep/floor.py": "rock = 'basalt'"}
    package = write(tmp_path / "ocean", files)
    assert sync_code(package, net, timeout=DEADLINE) == [
        "ocean/__init__.py", "ocean/deep/__init__.py", "ocean/deep/data/depths.txt", "ocean/deep/floor.py",
    ]  # fmt: skip
    source = "import ocean.deep.floor; ocean.text, ocean.deep.floor.rock"
    assert evaluate(net, source) == [("4000", "basalt")] * 2
    (package / "deep" / "data" / "depths.txt").write_text("5000")
    assert sync_code(package, net, timeout=DEADLINE) == ["ocean/deep/data/depths.txt"]
    assert evaluate(net, source) == [("5000", "basalt")] * 2
    (package / "deep" / "floor.py").unlink()
    assert sync_code(package, net, timeout=DEADLINE) == ["ocean/deep/floor.py"]
    with pytest.raises(ExceptionGroup) as group:
        reval("import ocean.deep.floor", net).result(DEADLINE)
    assert all(isinstance(error, ModuleNotFoundError) for error in group.value.exceptions)
    assert evaluate(net, "import ocean; ocean.text") == ["5000"] * 2


def test_a_folder_of_modules(net: Network, tmp_path: Path) -> None:
    folder = write(
        tmp_path / "scripts", {"waves_c.py": "import wind_c\nspeed = wind_c.speed", "wind_c.py": "speed = 7"}
    )
    assert sync_code(folder, net, timeout=DEADLINE) == ["waves_c.py", "wind_c.py"]
    assert evaluate(net, "import waves_c; waves_c.speed") == [7, 7]
    (folder / "wind_c.py").write_text("speed = 8")
    assert sync_code(folder, net, timeout=DEADLINE) == ["wind_c.py"]
    assert evaluate(net, "import waves_c; waves_c.speed") == [8, 8]


def test_what_an_engine_had_imported_from_its_own_directory(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"waves_d.py": "height = 'in the directory'"})
    other = write(tmp_path / "other", {"waves_d.py": "height = 'synced'"}) / "waves_d.py"
    monkeypatch.chdir(tmp_path)
    with server.connect() as net:
        assert evaluate(net, "import waves_d; waves_d.height") == ["in the directory"]
        sync_code(other, net, timeout=DEADLINE)
        assert evaluate(net, "import waves_d; waves_d.height") == ["synced"]


def test_functions_of_a_synced_module_are_sent_by_name(
    net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_code(
        write(tmp_path, {"waves_e.py": "def double(x): return 2 * x"}) / "waves_e.py", net, timeout=DEADLINE
    )
    monkeypatch.syspath_prepend(tmp_path)
    import waves_e  # type: ignore[import-not-found]

    assert rfeval(waves_e.double, 4, connection=net[1], timeout=DEADLINE) == 8


def test_an_error_in_the_code_comes_when_it_is_imported(net: Network, tmp_path: Path) -> None:
    path = write(tmp_path, {"waves_f.py": "def broken(:"}) / "waves_f.py"
    assert sync_code(path, net, timeout=DEADLINE) == ["waves_f.py"]
    with pytest.raises(SyntaxError):
        reval("import waves_f", net[1]).result(DEADLINE)
    path.write_text("right = True")
    sync_code(path, net, timeout=DEADLINE)
    assert evaluate(net, "import waves_f; waves_f.right") == [True, True]


def test_hostile_names_write_nothing(net: Network, tmp_path: Path) -> None:
    for name in (str(tmp_path / "got"), "../../../../../../../" + str(tmp_path / "got"), "..\\got"):
        listing = [True, [], [[name.encode(), 1, 0o600, 0]]]
        with pytest.raises(RemoteError, match="not the name of a file inside a folder"):
            call_service("code.begin", [b"token", "module got", listing], net[1]).result(DEADLINE)
    assert list(tmp_path.iterdir()) == []


def test_large_trees_go_in_batches(net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "large", {"waves_i.py": "height = 5", "table.bin": "1" * 3_000_000})
    monkeypatch.setattr(code_sync, "BATCH_BYTES", 100_000)
    assert sync_code(path, net, timeout=DEADLINE) == ["table.bin", "waves_i.py"]
    size = "import waves_i, pathlib; pathlib.Path(waves_i.__file__).with_name('table.bin').stat().st_size"
    assert evaluate(net, size) == [3_000_000] * 2


def test_a_node_that_fails_keeps_nobody_else_from_it(
    two_servers: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "code", {"waves_g.py": "height = 1"}) / "waves_g.py"
    monkeypatch.chdir(tmp_path)
    with connect(two_servers) as net:
        os.kill(engine_pids(net)[1], signal.SIGKILL)
        with pytest.raises(EngineDiedError, match="node 1"):
            sync_code(path, net, timeout=DEADLINE)
        assert evaluate(net[[2]], "import waves_g; waves_g.height") == [1]


def synced_folder(net: Network, folder: Path) -> Path:
    sync_code(write(folder, {"waves_h.py": "height = 1"}) / "waves_h.py", net, timeout=DEADLINE)
    reval("import waves_h; psend(waves_h.__file__, sockets[0])", net).result(DEADLINE)
    session = Path(precv(net[1], timeout=DEADLINE)).parent.parent.parent
    assert session.name.startswith("pserver-")
    assert session.stat().st_mode & 0o777 == 0o700
    return session


def kill_engine(net: Network) -> None:
    os.kill(engine_pids(net)[1], signal.SIGKILL)
    with pytest.raises(EngineDiedError):
        precv(net[1], timeout=DEADLINE)


def test_the_folder_of_a_killed_supervisor_is_removed_by_the_daemon(server: Server, tmp_path: Path) -> None:
    with server.connect() as net:
        folder = synced_folder(net, tmp_path)
        for pid in server.sessions(net):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not folder.exists(), f"the removal of {folder}")


@pytest.mark.parametrize("before", [lambda _: None, kill_engine])
def test_the_folder_goes_with_the_session(
    server: Server, tmp_path: Path, before: Callable[[Network], None]
) -> None:
    with server.connect() as net:
        folder = synced_folder(net, tmp_path)
        before(net)
        sclose(net)
    wait_until(lambda: not folder.exists(), f"the removal of {folder}")


def test_the_folder_goes_with_the_client_and_with_the_server(
    own_servers: list[Server], tmp_path: Path
) -> None:
    first, second = own_servers
    with first.connect() as net, second.connect() as other:
        folders = [synced_folder(net, tmp_path), synced_folder(other, tmp_path)]
        net.mesh.event_loop.close()  # the only sign of the client's end that the server gets
        second.process.terminate()
        for folder in folders:
            wait_until(lambda folder=folder: not folder.exists(), f"the removal of {folder}")  # type: ignore[misc]

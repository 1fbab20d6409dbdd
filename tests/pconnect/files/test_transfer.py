"""Files between a client and real engines: the data sent, and the state after a failure."""

import os
import resource
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import (
    ConfigurationError,
    ConnectionLostError,
    DeadlockError,
    EngineDiedError,
    RemoteError,
    UnreadableValueError,
    precv,
    reval,
)
from pconnect.files import transfer
from pconnect.files.partial_file import part_of
from pconnect.views.network_views import ClientNetwork
from tests.pconnect.loop.test_progress_bars import at_terminal
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_until

SIZE = 1_500_000
BATCH_BYTES = 100_000
# The size of a transfer without contents: the listing and the commands.
FEW_BYTES = 20_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture(scope="module")
def lasting(server: Server) -> Iterator[ClientNetwork]:
    """Two engines for tests that alter single calls in them."""
    with server.connect(2) as made:
        yield made


@pytest.fixture
def net(server: Server) -> Iterator[ClientNetwork]:
    """Two fresh engines for tests that break them."""
    with server.connect(2) as made:
        yield made


def folder_of(net: ClientNetwork, node: int = 1) -> Path:
    return Path(net[node].eval("str(session_files)").result(DEADLINE))


def sent(net: ClientNetwork, what: Any) -> int:
    """Return the number of bytes sent to node 1 during a call."""
    before = net[1].sent_bytes
    what()
    return net[1].sent_bytes - before


def put(net: ClientNetwork, local: Path, remote: str | None = None, timeout: float = DEADLINE) -> list[str]:
    """Do what `net.put` does, in small batches."""
    nodes = transfer.targets(net)
    return transfer.put(local, remote or local.name, nodes, timeout=timeout, batch_bytes=BATCH_BYTES)


def get(net: ClientNetwork, remote: str, folder: Path, timeout: float = DEADLINE) -> None:
    """Do what `net.get` does, in small batches."""
    nodes = transfer.targets(net)
    places = [folder / f"node_{node.node}" / remote for node in nodes]
    transfer.get(remote, places, nodes, timeout=timeout, batch_bytes=BATCH_BYTES)


def break_at(net: ClientNetwork, verb: str, statement: str, call: int = 4) -> None:
    """Make node 1 run a statement once, in one of the calls of a verb."""
    source = f"""
        import os, signal, time
        import pserver.services.files
        def broken(self, *args, original=pserver.services.files.SessionFiles.{verb}, calls=[]):
            calls.append(1)
            if len(calls) == {call}:
                {statement}
            return original(self, *args)
        pserver.services.files.SessionFiles.{verb} = broken
    """
    reval(source, net[1]).result(DEADLINE)


def check_usable(net: ClientNetwork) -> None:
    """Fail if an interrupted transfer has left an error that a later call would raise."""
    assert net.eval("sockets.node").result(DEADLINE) == [1, 2]
    with pytest.raises(TimeoutError):
        precv(net[1], timeout=0.05)


def test_what_is_there_is_not_sent_again(network: ClientNetwork, large: Path) -> None:
    paths: list[str] = []
    assert SIZE < sent(network, lambda: paths.extend(network.put(large, "data/x"))) < SIZE + FEW_BYTES
    assert paths == [str(folder_of(network, node) / "data" / "x") for node in (1, 2)]
    for path in paths:
        assert Path(path).read_bytes() == large.read_bytes()
    assert sent(network, lambda: network.put(large, "data/x", timeout=DEADLINE)) < FEW_BYTES
    Path(paths[1]).write_bytes(b"changed")
    assert sent(network, lambda: network.put(large, "data/x", timeout=DEADLINE)) < FEW_BYTES
    assert Path(paths[1]).read_bytes() == large.read_bytes()


def test_neither_end_holds_a_file_in_memory(net: ClientNetwork, tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    with path.open("wb") as stream:
        stream.truncate(60_000_000)
    peak = "__import__('resource').getrusage(0).ru_maxrss"
    here, there = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, net[1].eval(peak).result(DEADLINE)
    nodes = transfer.targets(net[1])
    transfer.put(path, "zeros", nodes, timeout=DEADLINE, batch_bytes=10 * BATCH_BYTES)
    transfer.get("zeros", [tmp_path / "again"], nodes, timeout=DEADLINE, batch_bytes=10 * BATCH_BYTES)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - here < 30_000  # KiB
    assert net[1].eval(peak).result(DEADLINE) - there < 30_000


@pytest.mark.parametrize("verb", ["put", "get"])
def test_a_transfer_goes_on_after_the_death_of_an_engine(
    net: ClientNetwork, tmp_path: Path, large: Path, verb: str
) -> None:
    if verb == "get":
        put(net, large)
    break_at(net, verb, "os.kill(os.getpid(), signal.SIGKILL)")

    def move() -> None:
        if verb == "put":
            put(net, large)
        else:
            get(net, "large.bin", tmp_path)

    with pytest.raises(EngineDiedError, match="node 1"):
        move()
    there = folder_of(net, 2) / "large.bin" if verb == "put" else tmp_path / "node_2" / "large.bin"
    assert there.read_bytes() == large.read_bytes()  # the other node's file
    net[1].restart()
    folder = folder_of(net) if verb == "put" else tmp_path / "node_1"
    part = part_of(folder / "large.bin").stat().st_size
    assert part == (3 * BATCH_BYTES if verb == "put" else part) >= BATCH_BYTES
    if verb == "put":
        assert SIZE - part < sent(net, move) < SIZE - part + FEW_BYTES
    else:
        reval("before = sockets[0].sent_bytes", net[1]).result(DEADLINE)
        move()
        came = net[1].eval("sockets[0].sent_bytes - before").result(DEADLINE)
        assert SIZE - part < came < SIZE - part + FEW_BYTES
    assert (folder / "large.bin").read_bytes() == large.read_bytes()
    assert [path.name for path in folder.iterdir()] == ["large.bin"]


@pytest.mark.parametrize("how", ["time limit", "Ctrl-C"])
@pytest.mark.parametrize("verb", ["put", "get"])
def test_a_transfer_goes_on_after_an_interruption(
    net: ClientNetwork, tmp_path: Path, large: Path, verb: str, how: str
) -> None:
    assert threading.current_thread() is threading.main_thread()
    put(net, large, "there")
    signal = f"os.kill({os.getpid()}, signal.SIGINT); " if how == "Ctrl-C" else ""
    break_at(net, verb, f"{signal}time.sleep(60)")
    timeout = DEADLINE if how == "Ctrl-C" else 1.0
    with pytest.raises(KeyboardInterrupt if how == "Ctrl-C" else TimeoutError):
        if verb == "put":
            put(net, large, timeout=timeout)
        else:
            get(net, "there", tmp_path, timeout)
    check_usable(net)
    if verb == "put":
        assert SIZE // 2 < sent(net, lambda: put(net, large)) < SIZE - 2 * BATCH_BYTES
        assert (folder_of(net) / "large.bin").read_bytes() == large.read_bytes()
    else:
        part = part_of(tmp_path / "node_1" / "there").stat().st_size
        assert part >= BATCH_BYTES
        get(net, "there", tmp_path)
        assert (tmp_path / "node_1" / "there").read_bytes() == large.read_bytes()


def test_the_limit_of_the_server(tmp_path: Path, users: Any) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(bytes(5))
    (source / "z").write_bytes(bytes(2**20 + 1))
    with (
        run_server(tmp_path / "server", "--max-file-size=1m", users=users) as server,
        server.connect() as net,
    ):
        for local in (source, source / "z"):
            with pytest.raises(ConfigurationError, match=r"/(x|z) has 1048577 bytes, .* 1048576 bytes"):
                net.put(local, "x")
        assert list(folder_of(net).iterdir()) == []
        net.put(source / "a")
        reval("(session_files / 'z').write_bytes(bytes(2**20 + 1))", net).result(DEADLINE)
        for remote in (".", "z"):
            with pytest.raises(RemoteError, match=r"z has 1048577 bytes, .* 1048576 bytes"):
                net[1].get(remote, tmp_path / "got")
        assert not (tmp_path / "got").exists()


def test_a_folder_that_may_not_be_written_to(net: ClientNetwork, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("1")
    folder = folder_of(net)
    if os.getuid() == 0:  # permissions do not apply to root
        reval("import os; os.seteuid(65534)", net[1]).result(DEADLINE)
    else:
        folder.chmod(0o500)
    with pytest.raises(PermissionError, match=rf"(?s)node 1 .*put\(.*{folder}") as caught:
        net.put(path)
    assert isinstance(caught.value, RemoteError)
    assert (folder_of(net, 2) / "x").read_text() == "1"


def test_errors_at_several_nodes(lasting: ClientNetwork, tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup, match="get failed on 2 nodes") as caught:
        lasting.get("nothing", tmp_path)
    assert all(isinstance(error, FileNotFoundError) for error in caught.value.exceptions)
    (tmp_path / "node_1").write_text("in the way")
    reval("(session_files / 'x').write_text('1')", lasting).result(DEADLINE)
    with pytest.raises(OSError, match="node_1"):
        lasting.get("x", tmp_path)
    assert (tmp_path / "node_2" / "x").read_text() == "1"


HOSTILE = (
    ("begin_get", "[True, [], [[b'../got', 1, 420, 0]]]", "'../got' is not the name of a file"),
    ("begin_get", "[True, [], [[b'/tmp/got', 1, 420, 0]]]", "'/tmp/got' is not the name of a file"),
    ("begin_get", "'all'", "invalid list of files"),
    ("begin_get", "[False, [], [[b'', 2**60, 420, 0]]]", "are free"),
    ("get", "[]", "did not send the requested pieces"),
    ("get", "[[0, 0, b'longer than it said', b'']]", "did not send the requested pieces"),
    ("get", "[[0, 0, b'abc', b'another digest']]", "is not the sent data"),
    ("get", "[[0, 0, 5, None]]", "did not send the requested pieces"),
    ("digests", "5", "the requested digests"),
)


@pytest.mark.parametrize(("verb", "answer", "words"), HOSTILE)
def test_a_server_that_lies(
    lasting: ClientNetwork, tmp_path: Path, verb: str, answer: str, words: str
) -> None:
    reval("(session_files / 'x').write_text('123')", lasting).result(DEADLINE)
    break_at(lasting, verb, f"return {answer}", call=1)
    inside = tmp_path / "a" / "b"
    with pytest.raises((UnreadableValueError, OSError), match=words):
        lasting[1].get("x", inside / "x", timeout=DEADLINE)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    check_usable(lasting)


def test_two_engines_of_a_machine_may_write_to_one_place(
    lasting: ClientNetwork, tmp_path: Path, large: Path
) -> None:
    place = tmp_path / "kept" / "x"
    assert lasting.put(large, place) == [str(place)] * 2
    assert place.read_bytes() == large.read_bytes()
    assert list(place.parent.iterdir()) == [place]


def test_what_is_kept_stays_and_the_rest_goes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    with server.connect() as net:
        folder = folder_of(net)
        net.put(tmp_path / "x")
        net.put(tmp_path / "x", tmp_path / "kept")
        net.restart()
        assert (folder / "x").read_text() == "1"
    wait_until(lambda: not folder.exists(), f"the removal of {folder}")
    assert (tmp_path / "kept").read_text() == "1"


@pytest.mark.slow
def test_a_deadlock_is_found(net: ClientNetwork, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    reval("precv(sockets[0])", net[1])
    with pytest.raises(DeadlockError):
        net[1].put(tmp_path / "x")


def test_a_dead_node_and_a_closed_network(net: ClientNetwork, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    net[1].kill()
    with pytest.raises(EngineDiedError, match="node 1"):
        net.put(tmp_path / "x", timeout=DEADLINE)
    assert net[2].get("x", tmp_path / "y").read_text() == "1"
    net.close()
    with pytest.raises(ConnectionLostError, match="closed"):
        net.put(tmp_path / "x")


def test_a_file_that_changes_while_it_is_sent(lasting: ClientNetwork, tmp_path: Path, large: Path) -> None:
    path = tmp_path / "x"
    shutil.copyfile(large, path)
    break_at(lasting, "put", f"os.truncate({str(path)!r}, 5)", call=2)
    with pytest.raises(OSError, match="x was changed while it was sent"):
        put(lasting, path, "changing")
    assert not (folder_of(lasting) / "changing").exists()
    check_usable(lasting)


def test_long_transfers_have_a_bar(
    network: ClientNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise the first look may come before anything is counted, and the second after a quick transfer has ended.
    monkeypatch.setattr("pconnect.loop.progress_bars._STEP", 0.001)
    path = tmp_path / "x"
    with path.open("wb") as stream:
        stream.truncate(50_000_000)
    with at_terminal() as terminal:
        network[1].put(path, "bar")
        assert "putting" in terminal.getvalue()
        assert "/50.0M" in terminal.getvalue()
    with at_terminal() as terminal:
        network[1].get("bar", tmp_path / "bar")
        assert "getting" in terminal.getvalue()
        assert "/50.0M" in terminal.getvalue()

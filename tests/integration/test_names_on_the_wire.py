"""No client call names our modules on the wire or reads a name of the user's."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pconnect import Network, reval
from pconnect.views.network_views import ClientNetwork
from srp_tools.channel import Buffer, Channel
from srp_tools.credentials import Credentials
from tests.support.recorder import recorded_server
from tests.support.servers import Server, run_server
from tests.support.verbs import VERBS, Verb
from tests.support.waiting import DEADLINE

# Functions that evaluated text would need, and modules that it would name.
PATHS = re.compile(rb"(?:pserver|pconnect|srp_tools)\.[a-z_]\w*(?:\.\w+)*")
TEXTS = re.compile(rb"__import__|globals\(\)|fromlist|importlib")
ALLOWED = {b"pconnect.remote_entry"}
HOSTILE = """
globals = 5; __import__ = 3; psend = precv = select_sockets = None; print = display = None; np = sockets = 0
len = list = dict = str = int = type = getattr = isinstance = sorted = None; open = exec = eval = None
pserver = pconnect = importlib = sys = os = functools = None; progress = job_folder = session_files = None
bcast = reduce = None
"""


def names_in(records: Mapping[Any, bytearray]) -> set[bytes]:
    return {found for record in records.values() for how in (PATHS, TEXTS) for found in how.findall(record)}


def use(net: ClientNetwork, folder: Path) -> None:
    reval("network_of_verbs = sockets", net).result(DEADLINE)
    for verb in VERBS.values():
        verb(net, folder)


@pytest.fixture
def deciphered(monkeypatch: pytest.MonkeyPatch) -> dict[object, bytearray]:
    """Record the data that this process sends and receives, before encryption and after decryption."""
    records: dict[object, bytearray] = {}
    send, receive_into = Channel.send, Channel.receive_into

    def recorded_send(self: Channel, data: Buffer) -> int:
        count = send(self, data)
        records.setdefault((self, "sent"), bytearray()).extend(memoryview(data)[:count])
        return count

    def recorded_receive(self: Channel, buffer: memoryview) -> int | None:
        count = receive_into(self, buffer)
        records.setdefault((self, "received"), bytearray()).extend(buffer[: count or 0])
        return count

    monkeypatch.setattr(Channel, "send", recorded_send)
    monkeypatch.setattr(Channel, "receive_into", recorded_receive)
    return records


@pytest.mark.slow
def test_the_client_names_no_modules(
    deciphered: dict[object, bytearray], tmp_path: Path, users: tuple[Credentials, Path]
) -> None:
    with (
        run_server(tmp_path / "server", "--slots=2", users=users) as server,
        server.connect(2, check_versions=False) as net,
    ):
        use(net, tmp_path)
        with net.dask(timeout=DEADLINE, set_as_default=False) as client:
            assert client.submit(abs, -1).result(DEADLINE) == 1
        passed = b"".join(deciphered.values())
        assert b"workspace.update" in passed and b"dask.prepare" in passed
        assert names_in(deciphered) == ALLOWED
        # The test can fail: it would notice these.
        net.eval("'pserver.services'; len(globals())").result(DEADLINE)
        assert names_in(deciphered) == ALLOWED | {b"pserver.services", b"globals()"}


@pytest.mark.slow
def test_no_one_names_modules_on_any_connection(tmp_path: Path) -> None:
    """This includes links between engines: the recorder is in front of all of them."""
    with recorded_server(tmp_path / "server", "--slots=2", use_tls=False) as (server, recorder):
        there = Server(server.process, {**server.status, "bind": ["127.0.0.1"]}, server.folder, use_tls=False)
        with there.connect(2, check_versions=False) as net:
            use(net, tmp_path)
        recorder.wait_for_the_end()
        assert recorder.connections[server.data_port] > 3  # both engines, the link between them, and workers
        assert names_in(recorder.bytes) == ALLOWED


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[ClientNetwork]:
    """Yield a network whose workspaces have overwritten all names that our own code could use."""
    folder = tmp_path_factory.mktemp("hostile")
    with run_server(folder, "--slots=2", users=users) as server, server.connect(2) as net:
        reval("network_of_verbs = sockets", net).result(DEADLINE)
        reval(HOSTILE, net).result(DEADLINE)
        yield net


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_whatever_the_user_assigns(hostile: ClientNetwork, verb: Verb, tmp_path: Path) -> None:
    verb(hostile, tmp_path)


@pytest.mark.slow
def test_a_cluster_of_dask_whatever_the_user_assigns(hostile: ClientNetwork) -> None:
    with hostile.dask(timeout=DEADLINE, set_as_default=False) as client:
        assert client.submit(abs, -1).result(DEADLINE) == 1


def test_without_the_builtins(server: Server) -> None:
    with server.connect(1) as net:
        assert isinstance(net, Network)
        reval("__builtins__ = {}", net).result(DEADLINE)
        net.push(a=1, timeout=DEADLINE)
        assert net.pull("a", timeout=DEADLINE) == [1]
        assert "a" in str(net.who(timeout=DEADLINE))

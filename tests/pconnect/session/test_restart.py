"""The client's part of a restart, with scripted servers; the rest is in `integration`."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pconnect import (
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    EngineDiedError,
    precv,
    psend,
    restart,
    reval,
)
from pconnect.errors import ParallelError
from pconnect.link.connection import Connection
from pconnect.protocol.frames import DEFAULT_LIMITS, HELLO, PREAMBLE_BYTES, Preamble
from pconnect.protocol.kinds import Kind, Role
from pconnect.routes.location import Location
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.mesh_setup import MeshSetup
from srp_tools.channel import Channel
from tests.support.links import FAILURE, LIMIT, Client, FakeServer


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def invite(client: Client, listener: socket.socket) -> ClientMesh:
    """Set the location of all engines to the port of the test."""
    mesh = client[0].mesh
    assert isinstance(mesh, ClientMesh)
    mesh.mesh_setup = MeshSetup(mesh.network_id, None, DEFAULT_LIMITS, 30.0, "/")
    for far in client[1]:
        far.server.location = Location("127.0.0.1", 2, listener.getsockname()[1])
    return mesh


@contextmanager
def serving(*works: Any) -> Iterator[None]:
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def tell(far: FakeServer) -> None:
    """Play the server of a node that is not restarted."""
    message = far.hear(Kind.RESTART)
    far.say(Kind.RESTART, None, message.tag)


def accept(far: FakeServer, listener: socket.socket) -> None:
    sock, _ = listener.accept()
    assert Preamble.unpack(sock.recv(PREAMBLE_BYTES, socket.MSG_WAITALL)).to_node == 1
    sock.sendall(HELLO)
    sock.setblocking(False)
    far.event_loop.discard(far.data)
    far.data = Connection(0, "client", Channel(sock), role=Role.ENGINE_DATA)
    far.data.on_message = far.heard.append
    far.event_loop.add(far.data)


def replace(far: FakeServer, listener: socket.socket, facts: dict[str, Any], setups: list[Any]) -> None:
    """Play the server of a node that is restarted."""
    tell(far)
    setups.append(far.hear(Kind.SETUP).value)
    accept(far, listener)
    far.say(Kind.MESHED, facts)


def test_the_node_is_as_at_the_beginning(client: Client, listener: socket.socket) -> None:
    net, (far, other) = client
    mesh = invite(client, listener)
    connection = net[1]
    old = reval("1 / 0", net[1])
    far.end(old.number, FAILURE)
    far.send("old")
    busy = reval("work()", net[2])
    running = reval("work()", net[1])
    mesh.event_loop.run_until(lambda: old.done() and connection.has_value(0), 1e12, "what is old")
    setups: list[Any] = []
    with serving(lambda: replace(far, listener, {"pid": 7}, setups), lambda: tell(other)):
        restart(net[1], timeout=LIMIT)
    assert {name: setups[0][name] for name in ("together", "gone", "busy")} == {
        "together": [1],
        "gone": {},
        "busy": [2],
    }
    with pytest.raises(EngineDiedError, match=r"the engine of node 1 \(host1\) was restarted"):
        running.result(LIMIT)
    assert not busy.done()
    assert net[1] is connection and connection.error is None
    assert (connection.values_sent, connection.values_received) == (0, 0)
    assert mesh.servers[1].facts == {"pid": 7}
    with pytest.raises(TimeoutError):  # neither the old value nor the old error arrives
        precv(net[1], timeout=0.01)
    psend("to the new engine", net[1])
    far.event_loop.run_until(lambda: far.data.has_value(0), 1e12, "the value")
    far.send("from the new engine")
    assert precv(net[1], timeout=LIMIT) == "from the new engine"
    following = reval("x", net[1])
    assert far.hear(Kind.COMMAND).value[1] == following.number  # a new epoch


def test_missing_connections_of_the_new_engine_are_reported_and_it_can_be_used(
    client: Client, listener: socket.socket
) -> None:
    net, (far, other) = client
    invite(client, listener)
    other.say(Kind.DIED, {"how": "SIGSEGV", "last_output": ""})
    errors = {"pid": 7, "errors": {"2": "node 1 could not connect to node 2: refused"}}
    setups: list[Any] = []
    with (
        serving(lambda: replace(far, listener, errors, setups), lambda: tell(other)),
        pytest.raises(ConnectError, match=r"could not connect to node 1 \(host1\): node 1 could not"),
    ):
        restart(net[1], timeout=LIMIT)
    assert "SIGSEGV" in setups[0]["gone"][2]
    command = reval("x", net[1])
    far.hear(Kind.COMMAND)
    far.end(command.number, 0.5)
    command.result(LIMIT)


def test_a_server_that_cannot_start_another_engine(client: Client, listener: socket.socket) -> None:
    net, (far, other) = client
    invite(client, listener)

    def refuse() -> None:
        far.say(Kind.RESTART, "no memory", far.hear(Kind.RESTART).tag)

    with serving(refuse, lambda: tell(other)), pytest.raises(ConnectError, match=r"node 1 .*: no memory"):
        restart(net[1], timeout=LIMIT)
    with pytest.raises(EngineDiedError, match=r"the restart of node 1 \(host1\) failed: no memory"):
        reval("x", net[1]).result(LIMIT)


def test_an_engine_that_dies_before_it_is_connected(client: Client, listener: socket.socket) -> None:
    net, (far, other) = client
    invite(client, listener)

    def die() -> None:
        tell(far)
        far.hear(Kind.SETUP)
        far.say(Kind.DIED, {"how": "SIGKILL", "last_output": ""})

    with serving(die, lambda: tell(other)), pytest.raises(ConnectError, match=r"node 1 .*SIGKILL"):
        restart(net[1], timeout=LIMIT)
    assert net[1].error is not None


def test_a_server_that_vanishes_during_the_restart(client: Client, listener: socket.socket) -> None:
    net, (far, other) = client
    invite(client, listener)

    def vanish() -> None:
        tell(far)
        far.hear(Kind.SETUP)
        far.event_loop.discard(far.command)

    with serving(vanish, lambda: tell(other)), pytest.raises(ConnectionLostError, match=r"node 1 .* is lost"):
        restart(net[1], timeout=LIMIT)
    with pytest.raises(EngineDiedError, match=r"the restart of node 1 .* failed: node 1 \(host1\) is lost"):
        reval("x", net[1]).result(LIMIT)


def test_a_new_engine_whose_connection_breaks_at_once(client: Client, listener: socket.socket) -> None:
    net, (far, other) = client
    mesh = invite(client, listener)

    def break_off() -> None:
        tell(far)
        far.hear(Kind.SETUP)
        accept(far, listener)
        far.event_loop.discard(far.data)
        mesh_sees_it.wait(LIMIT)
        far.say(Kind.MESHED, {"pid": 7})

    mesh_sees_it = threading.Event()
    lose_values = mesh.servers[1].data.on_lost

    def lose(error: ParallelError) -> None:
        lose_values(error)
        mesh_sees_it.set()

    mesh.servers[1].data.on_lost = lose
    with (
        serving(break_off, lambda: tell(other)),
        pytest.raises(ConnectError, match="could not connect to node 1"),
    ):
        restart(net[1], timeout=LIMIT)
    assert mesh.servers[1].state == "lost"


def test_a_server_that_is_gone(client: Client, listener: socket.socket) -> None:
    net, (far, other) = client
    invite(client, listener)
    far.event_loop.discard(far.command)
    with serving(lambda: tell(other)), pytest.raises(ConnectionLostError, match=r"node 1 \(host1\) is lost"):
        restart(net[1], timeout=LIMIT)


def test_an_engine_lives_on_while_its_daemon_is_dead(
    client: Client, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pconnect.session.restart._ASK_AGAIN", LIMIT)
    net, (far, _) = client
    invite(client, listener)
    running = reval("work()", net[1])

    def answer() -> None:
        for _ in range(2):  # it is asked again when the time is up
            far.say(Kind.FACTS, {"daemon": False}, far.hear(Kind.QUERY).tag)

    with (
        serving(answer),
        pytest.raises(ConnectError, match=r"node 1 \(host1\): its server was killed"),
    ):
        restart(net[1], timeout=0.5)
    assert net[1].error is None and not running.done()
    far.say(Kind.FACTS, {})
    far.end(running.number, 0.5)
    running.result(LIMIT)
    assert Kind.RESTART not in [message.kind for message in far.heard]


def test_an_answer_of_another_kind_answers_no_question(client: Client, listener: socket.socket) -> None:
    net, (far, other) = client
    invite(client, listener)

    def answer() -> None:
        number = far.hear(Kind.QUERY).tag
        far.command.post(Kind.FACTS, number, {"daemon": True})
        far.say(Kind.RESTART, "no room", number)
        replace(far, listener, {"pid": 7}, [])

    with serving(answer, lambda: tell(other)):
        restart(net[1], timeout=LIMIT)
    assert net[1].error is None


def test_a_daemon_that_comes_back_is_awaited(client: Client, listener: socket.socket) -> None:
    net, (far, other) = client
    invite(client, listener)

    def answer() -> None:
        far.say(Kind.FACTS, {"daemon": False}, far.hear(Kind.QUERY).tag)
        replace(far, listener, {"pid": 7}, [])

    with serving(answer, lambda: tell(other)):
        restart(net[1], timeout=LIMIT)
    assert net[1].error is None


def test_time_that_passes(client: Client, listener: socket.socket) -> None:
    net, (_, other) = client
    invite(client, listener)
    with serving(lambda: tell(other)), pytest.raises(TimeoutError, match=r"restart of node 1 \(host1\)"):
        restart(net[1], timeout=0.2)


def test_a_network_that_cannot(client: Client) -> None:
    net, _ = client
    with pytest.raises(ConfigurationError, match="no servers to start an engine"):
        restart(net)

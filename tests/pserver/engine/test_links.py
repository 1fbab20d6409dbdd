"""The engines' part in building a mesh; the test hands over connections in place of a daemon."""

import contextlib
import dataclasses
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pconnect.errors import ProtocolError
from pconnect.link.connection import Connection
from pconnect.link.dialing import dial
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import PREAMBLE_BYTES, Preamble, Purpose
from pconnect.protocol.kinds import Kind
from pconnect.values.encoder import pack
from pserver.engine.links import Links
from pserver.routes.setup import Setup
from srp_tools.certificates import Identity, NetworkAuthority, NodeKey
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after, pause, run
from srp_tools.tls import TlsContexts

LIMIT = 20.0
NETWORK = secrets.token_bytes(16)
KEY = secrets.token_bytes(32)
AUTHORITY = NetworkAuthority(NETWORK)


def identity(node: int) -> list[Any]:
    key = NodeKey()
    made = key.identity(NETWORK, node, AUTHORITY.sign(key.public_bytes(), node), AUTHORITY.certificate)
    return [made.key_pem, made.certificate, made.authority, {}, KEY]


def setup(node: int, ports: list[int], *, use_tls: bool, timeout: float = LIMIT, **options: Any) -> Setup:
    nodes = pack([[f"host{n}", [["127.0.0.1", port]]] for n, port in enumerate(ports, 1)])
    own = identity(node) if use_tls else None
    limits = [2**20, 2**20]
    return Setup(
        NETWORK,
        nodes,
        node,
        own,
        directory="/",
        directory_is_clients=True,
        session_folder="/",
        limits=limits,
        peer_timeout=30.0,
        timeout=timeout,
        **options,
    )


class Engine:
    """The links of an engine in its own loop."""

    def __init__(self, words: Setup, handover: socket.socket, *, hears_routes: bool = True) -> None:
        self.event_loop = EventLoop()
        self.heard: list[str] = []
        self.refused: list[tuple[int, str]] = []
        self.unreached: list[tuple[int, int]] = []
        self.hears_routes = hears_routes  # whether the client answers that there is no other way
        listen = lambda: self.heard.append("listened")  # noqa: E731
        self.links = Links(words, handover, self.event_loop, listen, self._hear)

    def _hear(self, kind: Kind, value: Any, node: int) -> None:
        if kind is Kind.REFUSED:
            self.refused.append((node, value))
        else:
            self.unreached.append((node, value[1]))
        if kind is Kind.UNREACHED and self.hears_routes:
            say = lambda _: self.links.route(node, value[0])  # noqa: E731 - that there is no other way
            self.event_loop.background.start(pause(0.01), deadline_after(LIMIT), say)

    def until(self, condition: Callable[[], bool]) -> None:
        self.event_loop.run_until(condition, deadline_after(LIMIT), "the links")

    def finish(self) -> None:
        self.until(lambda: not self.links.unfinished())

    def close(self) -> None:
        self.event_loop.close()


@contextmanager
def hand_over() -> Iterator[tuple[int, socket.socket]]:
    """Accept connections on a port, and pass each one with its preamble to the given end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def serve() -> None:
        while True:
            sock, _ = listener.accept()
            with sock:
                data = sock.recv(PREAMBLE_BYTES, socket.MSG_WAITALL)
                if not data:
                    return
                socket.send_fds(ours, [data], [sock.fileno()])

    with socket.create_server(("127.0.0.1", 0)) as listener, ours, theirs:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield port, theirs
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join(LIMIT)


@contextmanager
def joining(*engines: Engine) -> Iterator[None]:
    """Let engines build their links, each in its own thread, while the block runs."""
    threads = [threading.Thread(target=engine.finish, daemon=True) for engine in engines]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def call(
    port: int, from_node: int, to_node: int = 1, *, use_tls: bool, as_node: int | None = None
) -> Channel:
    """Open the data connection from one node to another. With TLS, it may use the certificate of a third node."""
    tls = None
    if use_tls:
        key_pem, certificate, authority, *_ = identity(from_node if as_node is None else as_node)
        own = Identity(NETWORK, from_node, key_pem, certificate, authority)
        tls = TlsContexts(own)
    steps = dial([("127.0.0.1", port)], Preamble(Purpose.DATA, NETWORK, from_node, to_node), tls, 30.0)
    return run(steps, deadline_after(LIMIT))


def exchange(engine: Engine, connection: Connection, channel: Channel, value: object) -> None:
    """Check that a value passes from the far end, which nothing else serves, to the engine and back."""
    far = Connection(0, "far", channel)
    far.post(Kind.VALUE, 7, value)
    far.flush()
    engine.until(lambda: connection.has_value(7))
    assert connection.take_value(7) == value
    connection.post(Kind.VALUE, 8, value)
    engine.event_loop.flush(connection)

    def arrived() -> bool:
        far.fill()
        return far.has_value(8)

    engine.until(arrived)


@pytest.mark.parametrize("use_tls", [True, False])
def test_two_engines_and_a_client(use_tls: bool) -> None:
    with contextlib.ExitStack() as stack:
        (port_1, handover_1), (port_2, handover_2) = (stack.enter_context(hand_over()) for _ in range(2))
        ports = [port_1, port_2]
        engines = [
            Engine(setup(1, ports, use_tls=use_tls), handover_1),
            Engine(setup(2, ports, use_tls=use_tls), handover_2),
        ]
        for engine in engines:
            stack.enter_context(contextlib.closing(engine))
        with joining(*engines):
            clients = [call(port, 0, node, use_tls=use_tls) for node, port in enumerate(ports, 1)]
        for client in clients:
            stack.enter_context(contextlib.closing(client))
        for node, engine in enumerate(engines, 1):
            connections = engine.links.connections
            assert engine.links.errors == {}
            assert [connection.is_own for connection in connections] == [n == node for n in range(3)]
            assert [connection.host for connection in connections] == ["client", "host1", "host2"]
            assert not any(c.is_awaited or c.error for c in connections)
            assert all(c.encrypted == use_tls for c in connections if not c.is_own)
            exchange(engine, connections[0], clients[node - 1], f"client and {node}")
            assert engine.heard  # messages from the supervisor are read first


def test_a_stranger_is_refused_and_does_not_count(capfd: pytest.CaptureFixture[str]) -> None:
    with hand_over() as (port, handover):
        engine = Engine(setup(1, [port], use_tls=True), handover)
        with contextlib.closing(engine), joining(engine):
            with pytest.raises(ConnectionError, match="no connection to node 1"):
                call(port, 0, use_tls=True, as_node=5)
            with pytest.raises(ConnectionError, match="no connection to node 1"):
                call(port, 4, use_tls=True)
            client = call(port, 0, use_tls=True)
        assert engine.links.errors == {}
        client.close()
    assert capfd.readouterr().err == ""  # standard error belongs to the user
    assert [node for node, _ in engine.refused] == [0, 4]
    assert engine.refused[1] == (4, "this node is not expected, or is connected already")


def test_who_does_not_come_and_who_cannot_be_reached_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        closed = sock.getsockname()[1]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        engine = Engine(setup(1, [closed, closed], use_tls=False, timeout=0.2), theirs)
        with contextlib.closing(engine):
            engine.finish()
            errors = engine.links.errors
            assert errors[0] == "node 0 did not connect to node 1"
            assert errors[2].startswith("node 1 could not connect to node 2: ")
            assert "Connection refused" in errors[2]
            assert [str(c.error) for c in engine.links.connections] == [errors[0], "None", errors[2]]


def test_a_daemon_that_is_gone_hands_nothing_over() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    with theirs, contextlib.closing(Engine(setup(1, [1], use_tls=False), theirs)) as engine:
        engine.finish()
        assert engine.links.errors == {0: "node 0 did not connect to node 1: its daemon is gone"}


@pytest.fixture
def joined() -> Iterator[tuple[Engine, int, Channel]]:
    """Yield an engine, node 3 of 3, with the port for dialling it, and its client's end."""
    with hand_over() as (port, handover):
        words = setup(3, [1, 1, port], use_tls=True, together=[3], gone={1: "it died", 2: "it died, too"})
        with contextlib.closing(Engine(words, handover)) as engine:
            with joining(engine):
                client = call(port, 0, 3, use_tls=True)
            yield engine, port, client
            client.close()


def test_a_node_that_is_restarted_dials_and_its_connection_is_the_same_object(
    joined: tuple[Engine, int, Channel],
) -> None:
    engine, port, client = joined
    connection = engine.links.connections[2]
    assert str(connection.error) == "it died, too"
    old = []  # ends that nobody has closed, so the engine considers these links alive
    for round_ in range(3):
        engine.links.renew([2, 3, 99], LIMIT)
        assert connection.is_awaited
        connection.post(Kind.VALUE, 0, f"queued {round_}")
        with joining(engine):
            channel = call(port, 2, 3, use_tls=True)
        far = Connection(3, "far", channel)

        def arrived(far: Connection = far) -> bool:
            far.fill()
            return far.has_value(0)

        engine.until(arrived)
        assert far.take_value(0) == f"queued {round_}"
        assert engine.links.connections[2] is connection
        exchange(engine, connection, channel, round_)
        old.append(channel)
    exchange(engine, engine.links.connections[0], client, "undisturbed")
    for channel in old:
        channel.close()


def test_only_who_is_expected_gets_in(
    joined: tuple[Engine, int, Channel], capfd: pytest.CaptureFixture[str]
) -> None:
    engine, port, client = joined
    engine.links.renew([2], LIMIT)
    with joining(engine):
        for from_node, as_node in ((2, 1), (1, 1), (0, 0)):
            with pytest.raises(ConnectionError):
                call(port, from_node, 3, use_tls=True, as_node=as_node)
        assert engine.links.connections[2].is_awaited
        channel = call(port, 2, 3, use_tls=True)
    assert [node for node, _ in engine.refused] == [2, 1, 0]
    assert capfd.readouterr().err == ""
    exchange(engine, engine.links.connections[2], channel, "in")
    exchange(engine, engine.links.connections[0], client, "undisturbed")
    channel.close()


def test_who_has_hung_up_is_passed_over(joined: tuple[Engine, int, Channel]) -> None:
    """An engine dialled while this one was busy, and was killed before it got an answer."""
    engine, port, _ = joined
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(Preamble(Purpose.DATA, NETWORK, 2, 3).pack())
    engine.links.renew([2], LIMIT)
    with joining(engine):
        channel = call(port, 2, 3, use_tls=True)
    exchange(engine, engine.links.connections[2], channel, "in")
    channel.close()


def test_a_node_that_does_not_come_again_is_lost_and_may_still_come_later(
    joined: tuple[Engine, int, Channel],
) -> None:
    engine, port, _ = joined
    connection = engine.links.connections[2]
    engine.links.renew([2], 0.05)
    engine.until(lambda: connection.error is not None)
    assert "node 2 did not connect to node 3" in str(connection.error)
    engine.links.renew([2], LIMIT)
    assert connection.error is None
    with joining(engine):
        call(port, 2, 3, use_tls=True).close()
    engine.until(lambda: connection.error is not None)


@pytest.mark.parametrize("use_tls", [True, False])
def test_an_engine_in_the_place_of_another_dials_those_that_were_there(use_tls: bool) -> None:
    """Node 2 replaces another engine. Node 1, which is busy, is not waited for, and finds the link later."""
    with contextlib.ExitStack() as stack:
        (port_1, handover_1), (port_2, handover_2) = (stack.enter_context(hand_over()) for _ in range(2))
        ports = [port_1, port_2]
        words = setup(1, ports, use_tls=use_tls, together=[1], gone={2: "died"})
        first = stack.enter_context(contextlib.closing(Engine(words, handover_1)))
        with joining(first):
            stack.enter_context(contextlib.closing(call(port_1, 0, use_tls=use_tls)))
        first.links.renew([2], LIMIT)
        words = setup(2, ports, use_tls=use_tls, together=[2], busy=[1])
        second = stack.enter_context(contextlib.closing(Engine(words, handover_2)))
        with joining(second):
            stack.enter_context(contextlib.closing(call(port_2, 0, 2, use_tls=use_tls)))
        ours, theirs = second.links.connections[1], first.links.connections[2]
        assert ours.is_awaited and theirs.is_awaited
        for connection in (ours, theirs):
            connection.post(Kind.VALUE, 0, "queued")

        def arrived() -> bool:
            first.event_loop.poll(0)
            return ours.has_value(0) and theirs.has_value(0)

        second.until(arrived)
        assert not second.links.errors and not first.links.errors


def test_where_the_other_one_can_dial_there_is_one_connection() -> None:
    """Node 1 cannot reach node 2; the client decides that node 2 dials instead."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        closed = sock.getsockname()[1]
    with contextlib.ExitStack() as stack:
        (port_1, handover_1), (port_2, handover_2) = (stack.enter_context(hand_over()) for _ in range(2))
        words = setup(1, [port_1, closed], use_tls=True)
        first = stack.enter_context(contextlib.closing(Engine(words, handover_1, hears_routes=False)))
        words = setup(2, [port_1, port_2], use_tls=True)
        second = stack.enter_context(contextlib.closing(Engine(words, handover_2)))
        first.until(lambda: bool(first.unreached))
        assert first.unreached == [(2, 0)] and 2 in first.links.unfinished()
        second.links.route(1, None)
        with joining(first, second):
            for node, port in ((1, port_1), (2, port_2)):
                stack.enter_context(contextlib.closing(call(port, 0, node, use_tls=True)))
        assert first.links.errors == second.links.errors == {}
        second.links.route(1, None)  # the link exists already
        assert second.links.unfinished() == []


def test_who_could_not_be_dialled_before_is_not_dialled_again() -> None:
    with contextlib.ExitStack() as stack:
        port, handover = stack.enter_context(hand_over())
        words = setup(1, [port, port], use_tls=False, together=[1], beyond=[2])
        engine = stack.enter_context(contextlib.closing(Engine(words, handover)))
        assert engine.unreached == [(2, 0)]
        stack.enter_context(joining(engine))
        stack.enter_context(contextlib.closing(call(port, 0, use_tls=False)))
        engine.until(lambda: bool(engine.links.errors))
        assert engine.links.errors[2] == "node 1 could not connect to node 2 before"


def test_nodes_are_added_begin_anew_and_are_removed(joined: tuple[Engine, int, Channel]) -> None:
    engine, port, client = joined
    links = engine.links
    [added] = links.change({4: ["host4", [["127.0.0.1", 1]]]}, {}, LIMIT)
    assert (added.node, added.host, added.is_awaited, len(links.connections)) == (4, "host4", True, 5)
    with joining(engine):
        channel = call(port, 4, 3, use_tls=True)
    exchange(engine, added, channel, "it is in")
    channel.close()
    assert links.change({2: ["host2", [["127.0.0.1", 1]]]}, {}, LIMIT) == []
    assert links.connections[2].is_awaited
    assert links.remove([2, 3, 9]) == [2]  # neither itself, nor nodes that do not exist
    assert links.removed == {2: "host2"}
    assert links.remove([2]) == []
    for wrong in ({6: ["gap", [["127.0.0.1", 1]]]}, {2: ["back", [["127.0.0.1", 1]]]}, {0: ["client", []]}):
        with pytest.raises(ProtocolError, match="MEMBERS makes no sense"):
            links.change(wrong, {}, LIMIT)
    exchange(engine, links.connections[0], client, "undisturbed")


def test_a_node_that_fails_at_once_is_expected_and_not_dialled() -> None:
    """As on a machine without a route to a network: the steps end before they are recorded."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        words = setup(1, [1, 1], use_tls=False, timeout=LIMIT)
        nodes = pack([["here", [["127.0.0.1", 1]]], ["there", [["255.255.255.255", 1]]]])
        engine = Engine(dataclasses.replace(words, nodes=nodes), theirs, hears_routes=False)
        with contextlib.closing(engine):
            engine.until(lambda: bool(engine.unreached))
            engine.links.route(2, "there is no way")
            assert engine.links.unfinished() == [0]

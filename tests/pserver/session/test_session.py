"""A session with several nodes: one login, one process; which further nodes it accepts, and how nodes end."""

import contextlib
import dataclasses
import errno
import os
import resource
import signal
import socket
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pconnect import Network, network_get_info, reval
from pconnect.errors import AuthenticationError, ConnectionLostError, ParallelError
from pconnect.link.nonces import new_nonce
from pconnect.protocol.frames import HELLO, Limits, Preamble, Purpose
from pconnect.session.login import LoginTerms, add_node, make_terms
from pserver.config.limit_options import SessionLimits
from pserver.orphans.returning_client import Orders
from pserver.session.session import _Session
from srp_tools.certificates import NetworkAuthority
from srp_tools.steps import deadline_after, run
from srp_tools.tls import TlsContexts
from tests.support.servers import Server, engine_pids, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

LIMIT = 20.0


def terms_of(net: Network) -> LoginTerms:
    """Return the terms with which the client of a network has logged in."""
    setup: Any = net.mesh.mesh_setup  # type: ignore[attr-defined]
    return LoginTerms(
        setup.network_id,
        None,
        setup.authority,
        setup.tls,
        setup.limits,
        30.0,
        setup.link_key,
        setup.network_key,
    )


def first_server(net: Network) -> Any:
    return net.mesh.servers[1]  # type: ignore[attr-defined]


@pytest.fixture(params=[True, False], ids=["local", "tls"])
def net(server: Server, request: pytest.FixtureRequest) -> Iterator[Network]:
    with server.connect(3, local_links=request.param) as made:
        yield made


def test_all_nodes_of_a_server_are_in_one_process_after_one_login(server: Server, net: Network) -> None:
    [pid] = server.sessions(net)
    parents = {psutil.Process(engine).ppid() for engine in engine_pids(net).values()}
    [spawner] = parents
    assert psutil.Process(spawner).ppid() == pid
    assert [info["state"] for info in network_get_info(net[1:])] == ["open"] * 3


def test_what_is_found_out_of_a_node_is_of_that_node(net: Network) -> None:
    reval("import os; import numpy as np; keep = np.ones(10_000_000 * sockets.node)", net).result(LIMIT)
    sizes = [info["memory_bytes"] for info in network_get_info(net[1:])]
    assert sizes == sorted(sizes)
    assert sizes[2] - sizes[0] > 100_000_000


def test_a_further_node_may_come_later_and_its_number_is_taken_then(net: Network) -> None:
    terms, first = terms_of(net), first_server(net)
    later = run(add_node(first, 9, terms), deadline_after(LIMIT))
    with pytest.raises(ConnectionLostError):
        run(add_node(first, 9, terms), deadline_after(LIMIT))
    with pytest.raises(ConnectionLostError):
        run(add_node(first, 2, terms), deadline_after(LIMIT))
    later.command.close()
    assert net.eval("sockets.node").result(LIMIT) == [1, 2, 3]  # type: ignore[attr-defined]


def impostor(net: Network) -> LoginTerms:
    """Return the terms of an impostor, who knows the network's id and has another certificate authority."""
    authority = NetworkAuthority(terms_of(net).network_id)
    tls = TlsContexts(authority.own_identity())
    real = terms_of(net)
    return LoginTerms(real.network_id, None, authority, tls, Limits(), 30.0, network_key=real.network_key)


def test_nobody_else_gets_a_further_node(server: Server, net: Network) -> None:
    with pytest.raises((ConnectionLostError, AuthenticationError)):
        run(add_node(first_server(net), 9, impostor(net)), deadline_after(LIMIT))
    if terms_of(net).link_key is not None:
        other = make_terms(server.credentials, Limits(), 30.0)
        wrong = dataclasses.replace(impostor(net), link_key=other.link_key)
        with pytest.raises((ConnectionLostError, AuthenticationError)):
            run(add_node(first_server(net), 9, wrong), deadline_after(LIMIT))
    server.wait_for_log(f"refused a further node of network {net.network_id}")
    assert net.eval("sockets.node").result(LIMIT) == [1, 2, 3]  # type: ignore[attr-defined]


def test_of_a_network_that_is_not_here_nobody_gets_a_node(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.data_port), LIMIT) as sock:
        sock.sendall(Preamble(Purpose.JOIN, os.urandom(16), 0, 1).pack())
        assert sock.recv(100) == b""


def test_those_who_say_nothing_keep_nobody_out_for_long(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", "--login-timeout=1") as server, server.connect(1) as net:
        terms = terms_of(net)
        preamble = Preamble(Purpose.JOIN, terms.network_id, 0, 1, key=terms.network_key)
        silent = [socket.create_connection(("127.0.0.1", server.data_port), LIMIT) for _ in range(70)]
        for sock in silent:
            sock.sendall(preamble.pack(new_nonce()))
        later = run(add_node(first_server(net), 2, terms), deadline_after(LIMIT))
        later.command.close()
        for sock in silent:
            sock.settimeout(LIMIT)
            assert sock.recv(100) in {b"", HELLO}
            sock.close()
        assert net.eval("sockets.node").result(LIMIT) == [1]


def test_a_malformed_answer_is_refused_and_harms_nobody(server: Server) -> None:
    with server.connect(1, local_links=False) as net:
        terms, first = terms_of(net), first_server(net)
        malformed = dataclasses.replace(terms, authority=NetworkAuthority(os.urandom(16)))
        with pytest.raises(ParallelError, match=r"no further engine: .*; the server's log may say why"):
            run(add_node(first, 2, malformed), deadline_after(LIMIT))
        with pytest.raises(ParallelError):
            run(add_node(first, 0, terms), deadline_after(LIMIT))
        assert net.eval("sockets.node").result(LIMIT) == [1]


def test_a_node_whose_channel_is_lost_ends_alone(server: Server, net: Network) -> None:
    pids = engine_pids(net)
    [session] = server.sessions(net)
    net.mesh.servers[2].command.close()  # type: ignore[attr-defined]
    wait_gone(pids[2])
    server.wait_for_log(f"session {session}, node 2: its client is gone")
    assert reval("x = 1", net[3]).result(LIMIT) is None
    assert reval("x = 1", net[1]).result(LIMIT) is None
    assert psutil.pid_exists(session)
    assert network_get_info(net[1:2])[0]["pid"] == pids[1]


def test_one_that_does_not_end_delays_no_other(net: Network) -> None:
    deaf = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(0.01)"
    reval(deaf, net)
    time.sleep(0.2)
    begin = time.monotonic()
    assert net.close(timeout=4) == [1, 2, 3]
    assert time.monotonic() - begin < 3  # each of them takes one second


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_all_nodes_end_with_their_session(server: Server, net: Network, sent: signal.Signals) -> None:
    folders = net.eval("str(session_files.parent)").result(LIMIT)  # type: ignore[attr-defined]
    pids = engine_pids(net)
    [session] = server.sessions(net)
    os.kill(session, sent)
    wait_gone(session, *pids.values())
    for connection in net[1:]:
        with pytest.raises(ParallelError):
            reval("x = 1", connection).result(LIMIT)
    wait_until(lambda: not any(Path(folder).exists() for folder in folders), "the removal of the folders")
    wait_until(lambda: server.sessions(net) == [], "the daemon to notice")


def test_the_client_is_told_that_the_server_stops(tmp_path: Path) -> None:
    with run_server(tmp_path / "server") as server:
        net = server.connect(3)
    for connection in net[1:]:
        with pytest.raises(ConnectionLostError, match="the server was stopped"):
            reval("x = 1", connection).result(DEADLINE)
    net.close()


def test_a_session_ends_with_its_last_node(server: Server) -> None:
    seconds = []
    for _ in range(6):
        net = server.connect(3)
        [session] = server.sessions(net)
        net.close()
        begin = time.monotonic()
        wait_gone(session)
        seconds.append(time.monotonic() - begin)
        server.wait_for_log(f"session {session}, node 3: the network was closed")
    assert min(seconds) < 0.4


def test_the_server_stops_while_a_node_is_ending() -> None:
    """The supervisor of this node gets no order any more, but the others do."""
    settings: Any = types.SimpleNamespace(limits=SessionLimits())
    session = _Session(None, None, settings)  # type: ignore[arg-type]
    stop, joins = socket.socketpair()
    pairs = [socket.socketpair() for _ in range(2)]
    pairs[0][1].close()
    session._nodes = {threading.Thread(): Orders(1, ours) for ours, _ in pairs}
    session._event_loop.watch(stop.fileno(), lambda: None)
    session._watch_joins()
    session._stop(stop)
    assert pairs[1][1].recv(10) == b"x"
    session._event_loop.poll(0)
    for end in (stop, joins, pairs[0][0], *pairs[1]):
        end.close()
    session.close()


def test_a_session_without_room_for_a_node_closes_what_it_has_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    settings: Any = types.SimpleNamespace(peer="a test", limits=SessionLimits())
    session = _Session(None, None, settings)  # type: ignore[arg-type]
    closed: list[str] = []
    client: Any = types.SimpleNamespace(
        node=1, channel=types.SimpleNamespace(close=lambda: closed.append("channel"))
    )
    place: Any = types.SimpleNamespace(close=lambda: closed.append("place"))
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socketpair", refuse)
        session._begin(client, place)
    assert (closed, session._nodes) == (["channel", "place"], {})
    session.close()


def test_a_session_may_have_more_descriptors_than_a_program_of_the_user(tmp_path: Path) -> None:
    """A node needs about twenty descriptors in its session, so fifty nodes would reach the usual limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (120, hard))
        try:
            server = stack.enter_context(run_server(tmp_path / "server"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with server.connect(10) as net:
            limits = net.eval("__import__('resource').getrlimit(__import__('resource').RLIMIT_NOFILE)[0]")
            assert limits.result(LIMIT) == [120] * 10

"""A client that has logged in sends malformed messages: it gets an error, and no process dies."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from pconnect import ConnectionLostError, EngineDiedError, RemoteError
from pconnect.protocol.kinds import Kind
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server, engine_pids
from tests.support.waiting import DEADLINE, wait_gone, wait_until

TRACEBACK = "Traceback"


@pytest.fixture(scope="module")
def net(server: Server) -> Iterator[ClientNetwork]:
    with server.connect(1) as made:
        yield made


def say(net: Any, kind: Kind, tag: int, value: object, *, on_data: bool = False) -> None:
    server = net.mesh.servers[1]
    connection = server.data if on_data else server.command
    connection.post(kind, tag, value)
    net.mesh.event_loop.flush(connection)


@pytest.mark.parametrize("kind", [Kind.COMMAND, Kind.CALL])
@pytest.mark.parametrize(
    "spoiled",
    [
        None,
        [],
        "x",
        ["1"],
        ["1", 0, None],
        ["1", "x", {}],
        ["1", 0, {"seconds": "x"}],
        ["1", 0, {"seconds": -1.0}],
    ],
    ids=repr,
)
def test_a_malformed_command_fails_and_the_engine_lives(
    net: ClientNetwork, monkeypatch: pytest.MonkeyPatch, kind: Kind, spoiled: object
) -> None:
    pid = engine_pids(net)[1]
    data = net.mesh.servers[1].data  # type: ignore[attr-defined]
    post = data.post

    def post_spoiled(_: Kind, tag: int = 0, __: object = None) -> None:
        post(kind, tag, spoiled)

    monkeypatch.setattr(data, "post", post_spoiled)
    command = net[1].eval("1")
    monkeypatch.undo()
    with pytest.raises(RemoteError, match=f"{kind.name} makes no sense") as error:
        command.result(DEADLINE)
    assert error.value.type_name == "ProtocolError"
    assert net[1].eval("1 + 1").result(DEADLINE) == 2
    assert engine_pids(net)[1] == pid


def test_a_time_limit_without_end_is_none(net: ClientNetwork) -> None:
    assert net[1].eval("1 + 1", time_limit=float("inf")).result(DEADLINE) == 2


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.SETUP, {"directory": "/", "links": {}}),
        (Kind.RESTART, [["x"], "y"]),
        (Kind.RESTART, [[2], "x"]),
        (Kind.PROBE, []),
        (Kind.PROBE, [1, "x", [1]]),
        (Kind.RENEW, 5),
        (Kind.STATISTICS, {"since": "x"}),
        (Kind.RENEW, b"no certificate"),
    ],
)
def test_what_a_session_would_pass_on_ends_the_session_and_not_the_engine(
    server: Server, capfd: pytest.CaptureFixture[str], kind: Kind, value: object
) -> None:
    with server.connect(1, local_links=False) as net:
        pid = engine_pids(net)[1]
        [session] = server.sessions(net)
        say(net, kind, 1, value)
        with pytest.raises(ConnectionLostError) as caught:
            net.eval("precv(sockets[0])").result(DEADLINE)
        assert not isinstance(caught.value, EngineDiedError)
        wait_gone(pid)
    line = f"session {session}, node 1: its client is gone: {kind.name} makes no sense"
    server.wait_for_log(line)
    assert TRACEBACK not in server.log
    assert TRACEBACK not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Kind.JOB, [0, [], {}, "x"]), (Kind.JOB, [0, [], {}, {"seconds": "x"}]), (Kind.SHARED, 5)],
)
def test_a_worker_answers_a_malformed_job_and_leaves_a_client_that_makes_no_sense(
    one_slot: Server, kind: Kind, value: object
) -> None:
    with one_slot.connect(1) as net, net.executor():
        pid = net.submit(os.getpid).result(DEADLINE)
        scheduler = net.mesh.scheduler  # type: ignore[attr-defined]
        [worker] = scheduler._manager.workers()

        def spoil() -> None:
            worker.connection.post(kind, 77, value)
            scheduler._thread.event_loop.flush(worker.connection)

        scheduler.call(spoil)
        if kind is Kind.SHARED:
            wait_gone(pid)
        assert (net.submit(os.getpid).result(DEADLINE) == pid) == (kind is Kind.JOB)
    assert TRACEBACK not in one_slot.log


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.KEEP, [{"name": "x", "after": "x"}, {}, b""]),
        (Kind.LEAVE, [{}]),
        (Kind.RECOVER, [10**12, 1, b"secret"]),
        (Kind.STOP, [2**64, 1.0]),
        (Kind.RECALL, "x"),
    ],
)
def test_what_makes_no_sense_on_the_job_channel_ends_that(server: Server, kind: Kind, value: object) -> None:
    with server.connect(1) as net:
        net.submit(os.getpid).result(DEADLINE)
        scheduler = net.mesh.scheduler  # type: ignore[attr-defined]
        node = scheduler._manager.nodes[1]

        def spoil() -> None:
            node.channel.post(kind, 7, value)
            scheduler._thread.event_loop.flush(node.channel)

        scheduler.call(spoil)
        wait_until(lambda: node.channel.error is not None, "the channel to be closed")
        assert net.eval("1 + 1").result(DEADLINE) == [2]  # nothing else is lost
    assert TRACEBACK not in server.log

"""The client's mesh: facts, closing, and epochs of collective calls."""

import threading

import pytest

from pconnect import (
    CollectiveError,
    EngineDiedError,
    RemoteError,
    barrier,
    network_get_info,
    precv,
    psend,
    reval,
)
from pconnect.errors import ConnectionLostError
from pconnect.loop.network import Network
from pconnect.protocol.kinds import Kind
from pconnect.session.remote_calls import client_mesh
from tests.support.counting import CountedDict, CountedList
from tests.support.links import FAILURE, LIMIT, Client, FakeServer, interrupt_soon


def test_facts_come_from_the_servers_that_answer(client: Client) -> None:
    net, servers = client
    servers[1].event_loop.close()

    def answer() -> None:
        servers[0].say(Kind.FACTS, {"load": 0.5, "memory_bytes": 7}, servers[0].hear(Kind.QUERY).tag)

    thread = threading.Thread(target=answer)
    thread.start()
    own, answered, lost = network_get_info(net, timeout=5)
    thread.join()
    assert own["local"] and own["node"] == 0
    assert (answered["state"], answered["load"], answered["cmd_port"]) == ("open", 0.5, 2)
    assert 0 < answered["round_trip"] < 5
    assert lost["state"] == "lost"


def test_a_server_without_an_answer_is_silent(client: Client) -> None:
    net, _ = client
    assert [info["state"] for info in network_get_info(net, timeout=0.01)] == ["open", "silent", "silent"]


def test_closing_reports_killed_and_silent_nodes_and_unretrieved_errors(client: Client) -> None:
    net, servers = client
    failed, running = reval("1 / 0", net[1]), reval("x", net[2])
    servers[0].end(failed.number, FAILURE)
    servers[0].say(Kind.CLOSED, False)
    with pytest.warns(RuntimeWarning, match="this error was never retrieved: ZeroDivisionError"):
        assert net.close(timeout=0.2) == [2]
    with pytest.raises(ConnectionLostError, match="the network was closed"):
        running.result()
    assert net.close() == []  # it is closed
    assert servers[0].hear(Kind.CLOSE).tag == 100


def test_callbacks_that_need_the_network_run_before_it_ends(client: Client) -> None:
    net, servers = client
    for server in servers:
        server.say(Kind.CLOSED, False)
    ended: list[str] = []
    net.mesh.before_close += [lambda: ended.append(f"first, {net.closed}"), lambda: ended.append("last")]  # type: ignore[attr-defined]
    net.close(timeout=5)
    assert ended == ["last", "first, False"]


def say_left(far: FakeServer, epoch: int, node: int, text: str) -> None:
    far.data.post(Kind.LEFT, 0, [epoch, node, text])
    far.event_loop.flush(far.data)


def epoch_of_next(net: Network, far: FakeServer) -> int:
    """Return the epoch of the next command, and let the command end successfully."""
    command = reval("next", net)
    message = far.hear(Kind.COMMAND)
    assert (message.tag, message.value[0]) == (command.number, "next")
    for server in net.mesh.servers.values():  # type: ignore[attr-defined]
        server.running.pop(command.number, None)
    for each in command:
        each.finish(None, 0.0)
    return int(message.value[1])


def test_a_failure_begins_a_new_epoch_with_the_next_command_and_only_with_it(client: Client) -> None:
    net, servers = client
    assert epoch_of_next(net, servers[1]) == 0
    failing, same = reval("1 / 0", net[1]), reval("x", net[1])
    servers[0].end(failing.number, FAILURE)
    with pytest.raises(RemoteError):
        failing.result(LIMIT)
    epoch = epoch_of_next(net, servers[1])
    assert epoch == same.number + 1 == net.mesh.epoch
    assert epoch_of_next(net, servers[1]) == epoch
    servers[0].end(same.number, FAILURE)  # from the old epoch
    with pytest.raises(RemoteError):
        same.result(LIMIT)
    assert epoch_of_next(net, servers[1]) == epoch


def test_calls_for_one_node_ignore_the_others(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    net, servers = client
    mesh = client_mesh(net.mesh)
    counted, connections = CountedDict(mesh.servers), CountedList(mesh.connections)
    monkeypatch.setattr(mesh, "servers", counted)
    monkeypatch.setattr(mesh, "connections", connections)
    mesh.note_failure()  # from an older epoch, which is checked only once
    for index in range(5):
        command = reval("x", net[2])
        servers[1].send(index)
        servers[1].end(command.number)
        command.result(LIMIT)
        assert precv(net[2]) == index
        psend(index, net[2])
    assert (counted.looks, connections.looks) == (1, 1)


def test_a_member_that_left_begins_a_new_epoch(client: Client) -> None:
    net, servers = client
    say_left(servers[0], 0, 1, "ValueError: why")
    net.mesh.event_loop.run_until(lambda: net[1].collectives.notice(0) is not None, 1e12, "the notice")
    epoch = epoch_of_next(net, servers[1])
    assert epoch == 1
    command = reval("x", net)
    with pytest.raises(TimeoutError):
        barrier(net, timeout=0.01)
    assert servers[1].hear(Kind.COMMAND).value == ["x", 1, {}]
    assert epoch_of_next(net, servers[1]) == command.number + 1
    assert epoch_of_next(net, servers[1]) == command.number + 1


def test_a_dead_engine_begins_one_epoch_and_not_one_for_each_command(client: Client) -> None:
    net, servers = client
    command = reval("x", net[1])
    servers[0].say(Kind.DIED, {"how": "SIGKILL", "last_output": ""})
    with pytest.raises(EngineDiedError):
        command.result(LIMIT)
    epoch = epoch_of_next(net, servers[1])
    assert epoch == command.number + 1
    assert epoch_of_next(net, servers[1]) == epoch


def test_a_failed_command_explains_why_its_node_left(client: Client) -> None:
    net, servers = client
    command = reval("work()", net)
    say_left(servers[1], 0, 1, "ZeroDivisionError: it began at node 1")

    def fail() -> None:
        servers[0].end(command.number, FAILURE)

    timer = threading.Timer(0.1, fail)
    timer.start()
    with pytest.raises(RemoteError, match="ZeroDivisionError on node 1"):
        barrier(net, timeout=LIMIT)
    timer.join()
    servers[1].end(command.number, FAILURE)
    with pytest.raises(TimeoutError):  # the error has been seen
        precv(net[1], timeout=0.01)


def test_the_reason_is_reported_without_a_failed_command(client: Client) -> None:
    net, servers = client
    reval("x", net)
    say_left(servers[0], 0, 1, "ValueError: caught there")
    with pytest.raises(CollectiveError, match=r"node 1 \(host1\) left it: ValueError: caught there"):
        barrier(net, timeout=LIMIT)
    with pytest.raises(CollectiveError, match="barrier cannot start"):
        barrier(net, timeout=LIMIT)


def test_a_node_without_a_command_will_not_join_a_collective_call(client: Client) -> None:
    net, servers = client
    command = reval("x", net)
    servers[1].end(command.number, 0.5)
    with pytest.raises(
        CollectiveError, match=r"barrier of nodes 0, 1, 2 cannot .* node 2 \(host2\) is not running a command"
    ):
        barrier(net, timeout=LIMIT)


def test_a_failure_without_notice_is_seen_too(client: Client) -> None:
    net, servers = client
    command = reval("x", net)
    servers[0].end(command.number, FAILURE)
    with pytest.raises(RemoteError):
        barrier(net, timeout=LIMIT)
    assert net[1].inbox == {}


def test_ctrl_c_in_a_collective_call_interrupts_and_notifies_the_members(client: Client) -> None:
    net, servers = client
    command = reval("x", net)
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        barrier(net, timeout=LIMIT)
    for far in servers:
        assert far.hear(Kind.INTERRUPT).tag == command.number
        far.event_loop.run_until(lambda far=far: far.data.collectives.notice(0) is not None, 1e12, "")  # type: ignore[misc]
        notice = far.data.collectives.notice(0)
        assert notice is not None
        assert notice.text.startswith("KeyboardInterrupt")

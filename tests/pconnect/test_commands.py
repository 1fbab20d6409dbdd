"""The client's view, with servers whose far ends say what the test wants."""

import signal
import threading
from collections.abc import Iterator

import pytest

from pconnect import (
    CollectiveError,
    EngineDiedError,
    RemoteError,
    barrier,
    network_get_info,
    precv,
    reval,
    select_sockets,
)
from pconnect.errors import ConnectionLostError
from pconnect.frames import Kind
from pconnect.network import Network
from tests.pconnect.links import LIMIT, FakeServer, client_of

FAILURE = {
    "type": "ZeroDivisionError",
    "bases": ["ZeroDivisionError"],
    "message": "division by zero",
    "traceback": "Traceback: 1 / 0",
    "values_sent": 0,
    "seconds": 0.5,
}


@pytest.fixture
def client() -> Iterator[tuple[Network, list[FakeServer]]]:
    with client_of(2) as made:
        yield made


Client = tuple[Network, list[FakeServer]]


def test_a_command_ends_at_each_node(client: Client) -> None:
    net, servers = client
    command = reval("  x = 1", net)
    assert not command.done()
    assert repr(command) == "<command 'x = 1' at nodes [1, 2], running>"
    for far in servers:
        message = far.hear(Kind.COMMAND)
        assert message.value == ["x = 1", 0, {}]
        far.say(Kind.DONE, 0.5, message.tag)
    command.result(LIMIT)
    assert command.done()
    assert "done" in repr(command)


def test_a_limit_of_time_leaves_it_running(client: Client) -> None:
    net, servers = client
    command = reval("x", net[1])
    with pytest.raises(TimeoutError, match="the end of <command 'x'"):
        command.result(0.01)
    servers[0].say(Kind.DONE, 0.5, command.number)
    command.result(LIMIT)


def test_an_error_belongs_to_its_command(client: Client) -> None:
    net, servers = client
    command = reval("1 / 0", net[1])
    servers[0].say(Kind.DONE, FAILURE, command.number)
    for _ in range(2):
        with pytest.raises(RemoteError, match="ZeroDivisionError at node 1") as error:
            command.result(LIMIT)
    assert error.value.remote_traceback == "Traceback: 1 / 0"
    assert "failed" in repr(command)
    with pytest.raises(TimeoutError):
        precv(net[1], timeout=0.01)


def test_errors_of_several_nodes_come_as_a_group(client: Client) -> None:
    net, servers = client
    command = reval("1 / 0", net)
    for far in servers:
        far.say(Kind.DONE, FAILURE, command.number)
    with pytest.raises(ExceptionGroup, match="failed at 2 nodes") as group:
        command.result(LIMIT)
    assert [error.node for error in group.value.exceptions if isinstance(error, RemoteError)] == [1, 2]


def test_nobody_asked_so_the_next_wait_is_told_once_and_after_the_values(client: Client) -> None:
    net, servers = client
    command = reval("1 / 0", net[1])
    servers[0].say(Kind.DONE, FAILURE | {"values_sent": 1}, command.number)
    with pytest.raises(TimeoutError):
        precv(net[1], timeout=0.01)
    servers[0].send("sent before")
    assert precv(net[1], timeout=LIMIT) == "sent before"
    with pytest.raises(RemoteError):
        select_sockets(net, LIMIT)
    assert select_sockets(net, 0.01) == []


def test_the_end_of_an_engine_ends_its_commands_and_no_other(client: Client) -> None:
    net, servers = client
    command, other = reval("x", net[1]), reval("y", net[2])
    servers[0].say(Kind.DIED, "SIGSEGV")
    with pytest.raises(EngineDiedError, match=r"the engine of node 1 \(host1\) died: SIGSEGV"):
        command.result(LIMIT)
    with pytest.raises(EngineDiedError):
        reval("z", net[1]).result()
    with pytest.raises(EngineDiedError):
        precv(net[1], timeout=LIMIT)
    servers[1].say(Kind.DONE, 0.5, other.number)
    other.result(LIMIT)
    servers[0].progress.discard(servers[0].data)
    with pytest.raises(EngineDiedError, match="SIGSEGV"):
        precv(net[1], timeout=LIMIT)


def test_a_server_that_is_gone(client: Client) -> None:
    net, servers = client
    command = reval("x", net[1])
    servers[0].progress.close()
    with pytest.raises(ConnectionLostError, match=r"node 1 \(host1\) is lost"):
        command.result(LIMIT)
    with pytest.raises(ConnectionLostError, match=r"node 1 \(host1\) is lost"):
        reval("x", net[1]).result()
    assert network_get_info(net[1:], timeout=0.01)[0]["state"] == "lost"


def test_a_session_that_the_server_ends(client: Client) -> None:
    net, servers = client
    command = reval("x", net[1])
    servers[0].say(Kind.STOPPING, "the server was stopped")
    with pytest.raises(EngineDiedError, match="was ended: the server was stopped"):
        command.result(LIMIT)


def test_a_broken_data_connection_waits_for_no_account_for_ever(client: Client) -> None:
    net, servers = client
    servers[0].progress.discard(servers[0].data)
    with pytest.raises(ConnectionLostError, match=r"node 1 \(host1\) is lost"):
        precv(net[1], timeout=LIMIT)


def test_an_answer_to_no_command_is_passed_over(client: Client) -> None:
    net, servers = client
    servers[0].say(Kind.DONE, FAILURE, 99)
    with pytest.raises(TimeoutError):
        precv(net[1], timeout=0.05)


def test_output_has_the_node_in_front_of_each_line(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    net, servers = client
    for stream, data in ((1, b"one\ntw"), (1, b"o\n"), (2, b"bad \xff\n")):
        servers[0].say(Kind.OUTPUT, data, stream)
    command = reval("x", net[1])
    servers[0].say(Kind.DONE, 0.5, command.number)
    command.result(LIMIT)
    out, err = capsys.readouterr()
    assert out == "[1 host1] one\n[1 host1] two\n"
    assert err == "[1 host1] bad \ufffd\n"


def interrupt_soon() -> None:
    threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()


def test_ctrl_c_interrupts_what_is_waited_for_and_the_second_kills(client: Client) -> None:
    net, servers = client
    first, second = reval("a", net[1]), reval("b", net[1])
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        first.result(LIMIT)
    assert servers[0].hear(Kind.INTERRUPT).tag == first.number
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        precv(net[1], timeout=LIMIT)
    servers[0].hear(Kind.KILL)
    assert not second.done()
    assert not servers[1].heard


def test_ctrl_c_without_a_command_interrupts_nobody(client: Client) -> None:
    net, servers = client
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        precv(net[1], timeout=LIMIT)
    servers[0].progress.poll(0)
    assert servers[0].heard == []


def test_facts_come_from_the_servers_that_answer(client: Client) -> None:
    net, servers = client
    servers[1].progress.close()

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


def test_closing_tells_who_was_killed_or_silent_and_what_nobody_asked_for(client: Client) -> None:
    net, servers = client
    failed, running = reval("1 / 0", net[1]), reval("x", net[2])
    servers[0].say(Kind.DONE, FAILURE, failed.number)
    servers[0].say(Kind.CLOSED, False)
    with pytest.warns(RuntimeWarning, match="nobody asked for this error: ZeroDivisionError"):
        assert net.close(timeout=0.2) == [2]
    with pytest.raises(ConnectionLostError, match="the network was closed"):
        running.result()
    with pytest.raises(ConnectionLostError, match="the network is closed"):
        net.close()
    assert servers[0].hear(Kind.CLOSE).tag == 100


# --- epochs of collective calls ---


def say_left(far: FakeServer, epoch: int, node: int, text: str) -> None:
    far.data.post(Kind.LEFT, 0, [epoch, node, text])
    far.progress.flush(far.data)


def epoch_of_next(net: Network, far: FakeServer) -> int:
    """Return the epoch that the next command carries, and let it end well."""
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
    servers[0].say(Kind.DONE, FAILURE, failing.number)
    with pytest.raises(RemoteError):
        failing.result(LIMIT)
    epoch = epoch_of_next(net, servers[1])
    assert epoch == same.number + 1 == net.mesh.epoch
    assert epoch_of_next(net, servers[1]) == epoch
    servers[0].say(Kind.DONE, FAILURE, same.number)  # of the old epoch
    with pytest.raises(RemoteError):
        same.result(LIMIT)
    assert epoch_of_next(net, servers[1]) == epoch


def test_who_left_begins_a_new_epoch(client: Client) -> None:
    net, servers = client
    say_left(servers[0], 0, 1, "ValueError: why")
    net.mesh.progress.run_until(lambda: net[1].parts.notice(0) is not None, 1e12, "the notice")
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
    servers[0].say(Kind.DIED, "SIGKILL")
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
        servers[0].say(Kind.DONE, FAILURE, command.number)

    timer = threading.Timer(0.1, fail)
    timer.start()
    with pytest.raises(RemoteError, match="ZeroDivisionError at node 1"):
        barrier(net, timeout=LIMIT)
    timer.join()
    servers[1].say(Kind.DONE, FAILURE, command.number)
    with pytest.raises(TimeoutError):  # the error has been seen
        precv(net[1], timeout=0.01)


def test_the_reason_is_told_where_no_command_failed(client: Client) -> None:
    net, servers = client
    reval("x", net)
    say_left(servers[0], 0, 1, "ValueError: caught there")
    with pytest.raises(CollectiveError, match=r"node 1 \(host1\) left it: ValueError: caught there"):
        barrier(net, timeout=LIMIT)
    with pytest.raises(CollectiveError, match="barrier cannot begin"):
        barrier(net, timeout=LIMIT)


def test_who_runs_nothing_will_not_come(client: Client) -> None:
    net, servers = client
    command = reval("x", net)
    servers[1].say(Kind.DONE, 0.5, command.number)
    with pytest.raises(
        CollectiveError, match=r"barrier of nodes 0, 1, 2 cannot .* node 2 \(host2\) runs no command"
    ):
        barrier(net, timeout=LIMIT)


def test_a_failure_without_notice_is_seen_too(client: Client) -> None:
    net, servers = client
    command = reval("x", net)
    servers[0].say(Kind.DONE, FAILURE, command.number)
    with pytest.raises(RemoteError):
        barrier(net, timeout=LIMIT)
    assert net[1].inbox == {}


def test_ctrl_c_in_a_collective_call_interrupts_the_members_and_tells_them(client: Client) -> None:
    net, servers = client
    command = reval("x", net)
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        barrier(net, timeout=LIMIT)
    for far in servers:
        assert far.hear(Kind.INTERRUPT).tag == command.number
        far.progress.run_until(lambda far=far: far.data.parts.notice(0) is not None, 1e12, "")  # type: ignore[misc]
        notice = far.data.parts.notice(0)
        assert notice is not None
        assert notice.text.startswith("KeyboardInterrupt")

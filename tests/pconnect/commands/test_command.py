"""A command on one node or several, with scripted servers."""

import signal
from collections.abc import Callable
from concurrent.futures import CancelledError

import pytest

from pconnect import (
    Command,
    RemoteError,
    precv,
    reval,
    select_sockets,
)
from pconnect.commands.command import Outcome
from pconnect.errors import ConnectionLostError, ProtocolError
from pconnect.link.connection import LIBRARY_TAGS
from pconnect.protocol.kinds import Kind
from pconnect.session.remote_calls import run
from pconnect.views.network_views import ClientNetwork
from tests.support.links import FAILURE, LIMIT, Client, FakeServer, interrupt_soon


def test_a_time_limit_leaves_it_running(client: Client) -> None:
    net, servers = client
    command = reval("x", net[1])
    with pytest.raises(TimeoutError, match="the end of <command 'x'"):
        command.result(0.01)
    servers[0].end(command.number, 0.5)
    command.result(LIMIT)


def test_an_error_belongs_to_its_command(client: Client) -> None:
    net, servers = client
    command = reval("1 / 0", net[1])
    servers[0].end(command.number, FAILURE)
    for _ in range(2):
        with pytest.raises(RemoteError, match="ZeroDivisionError on node 1") as error:
            command.result(LIMIT)
    assert error.value.remote_traceback == "Traceback: 1 / 0"
    assert "failed" in repr(command)
    with pytest.raises(TimeoutError):
        precv(net[1], timeout=0.01)


def test_ctrl_c_interrupts_the_awaited_command_and_the_second_kills(client: Client) -> None:
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


@pytest.mark.parametrize("nodes", [slice(1, 2), slice(1, 3)])
def test_ctrl_c_interrupts_also_while_the_first_news_are_taken_in(
    client: Client, nodes: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, servers = client
    commands = reval("a", net[nodes])
    event_loop, poll = net.mesh.event_loop, net.mesh.event_loop.poll

    def press(timeout: float) -> None:
        monkeypatch.setattr(event_loop, "poll", poll)
        signal.raise_signal(signal.SIGINT)
        poll(timeout)

    monkeypatch.setattr(event_loop, "poll", press)
    with pytest.raises(KeyboardInterrupt):
        (commands if len(commands) > 1 else commands[0]).result(LIMIT)
    for far in servers[: len(commands)]:
        assert far.hear(Kind.INTERRUPT).tag == commands.number


@pytest.mark.parametrize("wait", [precv, select_sockets])
def test_ctrl_c_interrupts_also_while_a_wait_catches_up(
    client: Client, wait: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, servers = client
    reval("a", net[1])
    monkeypatch.setattr(net.mesh.event_loop, "catch_up", lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        wait(net[1], timeout=LIMIT)
    servers[0].hear(Kind.INTERRUPT)


def test_ctrl_c_without_a_command_interrupts_nothing(client: Client) -> None:
    net, servers = client
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        precv(net[1], timeout=LIMIT)
    servers[0].event_loop.poll(0)
    assert servers[0].heard == []


def test_a_value_comes_on_its_own_way_and_may_be_first_or_last(client: Client) -> None:
    net, (far, _) = client
    for value_first in (True, False):
        command = run("x", net[1], wants_value=True)
        assert far.hear(Kind.COMMAND).value[2] == {"value": True}
        steps = [
            lambda number=command.number: far.end(number, 0.25),
            lambda number=command.number: far.send([False, {"a": 1}], LIBRARY_TAGS + number),
        ]
        for step in reversed(steps) if value_first else steps:
            assert not command.done()
            step()
        assert command.result(LIMIT) == {"a": 1}
        assert command.exception(LIMIT) is None
        assert command.duration == 0.25
        assert command.started is not None and command.finished - command.started == 0.25


def test_an_unexpected_value_is_dropped(client: Client) -> None:
    net, (far, _) = client
    command = run("x", net[1], wants_value=True)
    number = command.number
    far.end(number, 0.25)
    with pytest.raises(TimeoutError):
        command.result(0.05)
    del command
    far.send([False, "late"], LIBRARY_TAGS + number)
    far.send("mine")
    assert precv(net[1], timeout=LIMIT) == "mine"
    assert net[1].inbox == {}


def test_a_value_whose_connection_is_lost(client: Client) -> None:
    net, (far, _) = client
    command = run("x", net[1], wants_value=True)
    far.end(command.number, 0.25)
    far.event_loop.discard(far.data)
    with pytest.raises(ConnectionLostError, match="node 1"):
        command.result(LIMIT)


def test_a_pickled_value_is_refused_unless_it_was_asked_for(client: Client) -> None:
    net, (far, _) = client
    command = run("x", net[1], wants_value=True)
    far.send([True, b"cos\nsystem\n(S'true'\ntR."], LIBRARY_TAGS + command.number)
    far.end(command.number, 0.25)
    with pytest.raises(ProtocolError, match="not the value of a command"):
        command.result(LIMIT)


def test_cancel_asks_first_and_kills_the_second_time(client: Client) -> None:
    net, (far, _) = client
    first, second = reval("a", net[1]), reval("b", net[1])
    assert second.cancel()
    assert far.hear(Kind.CANCEL).tag == second.number
    far.end(second.number, FAILURE | {"type": "KeyboardInterrupt", "bases": ["KeyboardInterrupt"]})
    with pytest.raises(CancelledError) as error:
        second.result(LIMIT)
    assert isinstance(error.value, RemoteError)
    assert second.cancelled()
    assert second.cancel()  # like the standard library's futures
    assert first.cancel() and first.cancel()
    far.hear(Kind.KILL)
    with pytest.raises(TimeoutError):  # the user cancelled it, so no other call reports the error
        precv(net[1], timeout=0.01)


def test_an_error_is_of_the_builtin_type_too(client: Client) -> None:
    net, (far, _) = client
    command = reval("1 / 0", net[1])
    far.end(command.number, FAILURE)
    with pytest.raises(ZeroDivisionError):
        command.result(LIMIT)


def test_callbacks_are_called_once_it_has_ended(client: Client) -> None:
    net, (far, _) = client
    called: list[object] = []
    command = reval("a", net[1])
    command.add_done_callback(called.append)
    assert called == []
    far.end(command.number, 0.5)
    command.result(LIMIT)
    command.add_done_callback(called.append)
    assert called == [command, command]


def say_all_at_once(far: FakeServer, commands: list[Command]) -> None:
    for command in commands:
        far.data.post(Kind.DONE, command.number, [0.5, 0, 0, 0])
    far.event_loop.flush(far.data)


def test_a_callback_may_wait_for_what_came_with_the_end_of_its_command(client: Client) -> None:
    net, (far, _) = client
    first, second = (reval("a", net[1]) for _ in range(2))
    ended: list[object] = []
    first.add_done_callback(lambda _: ended.append(second.exception(LIMIT)))
    say_all_at_once(far, [first, second])
    first.result(LIMIT)
    assert ended == [None]


def test_a_callback_that_raises_harms_no_other_command_and_no_other_callback(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    net, (far, _) = client
    commands = [reval("a", net[1]) for _ in range(3)]
    called: list[object] = []
    for command in commands[:2]:
        command.add_done_callback(lambda _: [].pop())
        command.add_done_callback(called.append)
    say_all_at_once(far, commands)
    commands[2].result(LIMIT)
    assert called == commands[:2]
    commands[0].add_done_callback(lambda _: [].pop())  # called immediately
    logged = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert logged == [IndexError] * 3
    caplog.clear()
    assert all(command.done() for command in commands)


def test_a_callback_that_raises_an_error_of_this_package_loses_no_node(client: Client) -> None:
    net, (far, _) = client
    failing, command = reval("1 / 0", net[1]), reval("a", net[1])
    failing.add_done_callback(lambda failed: failed.result())
    far.end(failing.number, FAILURE)
    with pytest.raises(ZeroDivisionError):
        failing.result(LIMIT)
    far.end(command.number, 0.5)
    command.result(LIMIT)


def test_a_second_ctrl_c_while_the_first_is_dealt_with_kills(client: Client) -> None:
    net, (far, _) = client
    command = reval("a", net[1])
    interrupt_soon()
    interrupt_soon(0.4)
    with pytest.raises(KeyboardInterrupt):
        command.result(LIMIT)
    far.hear(Kind.INTERRUPT)
    far.hear(Kind.KILL)


def test_ctrl_c_names_the_nodes_that_have_not_ended(client: Client) -> None:
    net, (far, _) = client
    command = reval("a", net[1])
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt) as error:
        command.result(LIMIT)
    assert "node 1 (host1) has not ended yet" in error.value.__notes__[0]
    far.hear(Kind.INTERRUPT)


def test_an_interrupt_by_this_client_is_not_reported(client: Client) -> None:
    net, (far, _) = client
    command = reval("a", net[1])
    net.mesh.servers[1].interrupt()  # type: ignore[attr-defined]
    far.end(command.number, FAILURE | {"type": "KeyboardInterrupt", "bases": ["KeyboardInterrupt"]})
    with pytest.raises(TimeoutError):
        precv(net[1], timeout=0.05)
    assert command.exception(LIMIT) is not None


ERROR = ConnectionLostError("gone")


def outcome(*, wants_value: bool) -> Outcome:
    made = Outcome()
    made.read_value = (lambda arrived: arrived * 2) if wants_value else None
    made.callbacks.append(print)
    return made


@pytest.mark.parametrize("steps", [("end", "arrive"), ("arrive", "end")])
def test_a_value_may_come_before_and_after_the_end(steps: tuple[str, ...]) -> None:
    made = outcome(wants_value=True)
    for step in steps:
        assert not made.is_done and made.take_callbacks() == []
        if step == "end":
            assert made.end(None, 0.5, 9.0)
        else:
            made.arrive(21)
    assert made.is_done and made.value == 42
    assert (made.finished, made.duration, made.error) == (9.0, 0.5, None)
    assert made.take_callbacks() == [print] and made.take_callbacks() == []


def test_without_a_value_the_end_is_all() -> None:
    made = outcome(wants_value=False)
    assert made.finished is None and not made.is_done
    assert made.end(None, 0.5, 9.0)
    assert made.is_done and made.value is None


def test_only_the_first_end_counts() -> None:
    made = outcome(wants_value=False)
    assert made.end(None, 0.5, 9.0)
    assert not made.end(ERROR, None, 10.0)
    assert (made.error, made.finished) == (None, 9.0)


def test_an_error_ends_the_wait_for_a_value() -> None:
    made = outcome(wants_value=True)
    assert made.end(ERROR, None, 9.0)
    assert made.is_done and made.error is ERROR
    assert not made.lose_value(ConnectionLostError("another"))
    assert made.error is ERROR


def test_a_value_that_cannot_come_fails_only_a_command_that_has_ended_and_misses_it() -> None:
    running, missing, complete = (outcome(wants_value=True) for _ in range(3))
    for ended in (missing, complete):
        ended.end(None, 0.5, 9.0)
    complete.arrive(1)
    assert [each.lose_value(ERROR) for each in (running, missing, complete)] == [False, True, False]
    assert [each.error for each in (running, missing, complete)] == [None, ERROR, None]
    assert missing.is_done


def test_a_command_has_its_result_or_its_error(network: ClientNetwork) -> None:
    commands = run("'<i>' * sockets.node if sockets.node == 2 else 1 / 0", network, wants_value=True)
    assert commands.exception(60) is not None
    table = commands._repr_html_()
    assert "&#x27;&lt;i&gt;&lt;i&gt;&#x27;" in table
    assert "ZeroDivisionError on node 1" in table
    assert "failed" in table and "done" in table
    assert "Traceback" not in table
    assert "ZeroDivisionError" in commands[0]._repr_html_()


def test_displaying_a_table_does_not_retrieve_the_error(client: Client) -> None:
    net, servers = client
    command = reval("1 / 0", net[1])
    assert "running" in command._repr_html_()
    failure = {"type": "E", "bases": [], "message": "", "traceback": "", "values_sent": 0, "seconds": 1.5}
    servers[0].end(command.number, failure)
    net.mesh.event_loop.run_until(lambda: command.has_ended, 1e12, "its end")
    assert "failed" in command._repr_html_() and "1.5 s" in command._repr_html_()
    assert not command.seen.error
    with pytest.raises(RemoteError):
        command.result()


def test_long_things_are_cut(network: ClientNetwork) -> None:
    command = network[1].eval("'x' * 10000")
    command.result(60)
    assert len(command._repr_html_()) < 1000

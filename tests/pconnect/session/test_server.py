"""The client's view of its servers, whose far ends are scripted."""

import time

import pytest

from pconnect import (
    EngineDiedError,
    RemoteError,
    network_get_info,
    precv,
    reval,
    select_sockets,
)
from pconnect.errors import ConnectionLostError
from pconnect.protocol.kinds import ACCEPTS, Kind, Role
from pconnect.session.node_state import EVENTS
from tests.support.links import FAILURE, LIMIT, Client


def test_an_unretrieved_error_is_raised_once_by_the_next_wait_after_the_values(client: Client) -> None:
    net, servers = client
    command = reval("1 / 0", net[1])
    servers[0].end(command.number, FAILURE | {"values_sent": 2})
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
    servers[0].say(Kind.DIED, {"how": "SIGSEGV", "last_output": "here\nthere\n"})
    with pytest.raises(EngineDiedError) as died:
        command.result(LIMIT)
    account, *last = str(died.value).splitlines()
    words = "the engine of node 1 (host1) died: SIGSEGV in command 'x'; to continue: net[1].restart()"
    assert account == f"{words}; its last output:"
    assert last == ["here", "there"]
    with pytest.raises(EngineDiedError):
        reval("z", net[1]).result()
    with pytest.raises(EngineDiedError):
        precv(net[1], timeout=LIMIT)
    servers[1].end(other.number, 0.5)
    other.result(LIMIT)
    servers[0].event_loop.discard(servers[0].data)
    with pytest.raises(EngineDiedError, match="SIGSEGV"):
        precv(net[1], timeout=LIMIT)


def test_a_server_that_is_gone(client: Client) -> None:
    net, servers = client
    command = reval("x", net[1])
    servers[0].event_loop.close()
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
    servers[0].event_loop.close()
    server = net.mesh.servers[1]  # type: ignore[attr-defined]
    net.mesh.event_loop.run_until(
        lambda: server.command.error is not None, time.monotonic() + LIMIT, "the end"
    )
    assert (
        str(server.command.loss())
        == "node 1 (host1) is lost: the server was stopped; to continue: net.reconnect(1), or connect again"
    )
    assert server.trouble == "the session was ended: the server was stopped"


def test_an_engine_that_died_idle_did_not_die_in_what_waits_there(client: Client) -> None:
    net, servers = client
    commands = [reval("v", net[1]), reval("w", net[2]), reval("next", net[2])]
    servers[0].say(Kind.DIED, {"how": "SIGKILL", "last_output": "", "command": 0})
    servers[1].say(Kind.DIED, {"how": "SIGKILL", "last_output": "", "command": commands[1].number})
    errors = [str(command.exception(LIMIT)) for command in commands]
    assert errors[0] == "the engine of node 1 (host1) died: SIGKILL; to continue: net[1].restart()"
    assert "SIGKILL in command 'w'; to continue" in errors[1]
    assert errors[2] == errors[1]


def test_a_lost_connection_has_a_remedy(client: Client) -> None:
    net, servers = client
    server = servers[0].server
    servers[0].event_loop.discard(servers[0].data)
    net.mesh.event_loop.run_until(lambda: server.data.error is not None, 1e12, "the loss")
    assert str(server.data.loss()).endswith("; to continue: net[1].restart()")
    servers[0].event_loop.close()
    net.mesh.event_loop.run_until(lambda: server.command.error is not None, 1e12, "the loss")
    assert str(server.data.loss()).endswith("; to continue: net.reconnect(1), or connect again")
    assert str(server.command.loss()).endswith("; to continue: net.reconnect(1), or connect again")
    assert "to continue" not in server.trouble


def test_the_text_of_a_network_says_how_an_engine_ended(client: Client) -> None:
    net, servers = client
    servers[0].say(Kind.DIED, {"how": "SIGSEGV", "last_output": "oh\nno"})
    servers[0].event_loop.discard(servers[0].data)
    with pytest.raises(EngineDiedError):
        precv(net[1], timeout=LIMIT)
    assert repr(net).splitlines()[2] == "  1  host1  the engine died: SIGSEGV"


def test_a_broken_data_connection_does_not_wait_for_a_report_forever(client: Client) -> None:
    net, servers = client
    servers[0].event_loop.discard(servers[0].data)
    with pytest.raises(ConnectionLostError, match=r"node 1 \(host1\) is lost"):
        precv(net[1], timeout=LIMIT)


@pytest.mark.parametrize(("kind", "value"), [(Kind.MESHED, {}), (Kind.CLOSED, True)])
def test_an_impossible_event_is_an_error_of_the_server(client: Client, kind: Kind, value: object) -> None:
    net, servers = client
    command = reval("x", net[1])
    servers[0].say(kind, value)
    with pytest.raises(ConnectionLostError, match=f"{kind.name} from a node that is OPEN"):
        command.result(LIMIT)
    assert net.mesh.servers[1].state == "lost"  # type: ignore[attr-defined]


def test_every_message_of_a_server_is_taken() -> None:
    answers = {
        Kind.FACTS,
        Kind.RESTART,
        Kind.RENEW,
        Kind.STATE,
        Kind.MEMBERS,
        Kind.NEIGHBOURS,
        Kind.STATISTICS,
    }
    first = {Kind.BACK}  # to clients that return
    routes = {Kind.UNREACHED, Kind.RELAY}  # see `pconnect.routes.keeper`
    assert {Kind.DONE, Kind.OUTPUT, Kind.FRONT_END, *answers, *first, *routes, *EVENTS} == ACCEPTS[
        Role.CLIENT
    ]


def test_the_first_message_to_a_returning_client_is_an_error_elsewhere(client: Client) -> None:
    net, servers = client
    servers[0].say(Kind.BACK, [0, 0, 0])
    net.mesh.event_loop.poll(1.0)
    assert "BACK sent to a client that has not resumed its sessions" in str(servers[0].server.command.error)


def test_an_answer_to_no_command_is_passed_over(client: Client) -> None:
    net, servers = client
    servers[0].end(99, FAILURE)
    with pytest.raises(TimeoutError):
        precv(net[1], timeout=0.05)


def test_nothing_is_sent_to_an_engine_that_is_being_killed(client: Client) -> None:
    net, servers = client
    servers[0].server.kill()
    command = reval("x", net[1])
    other = reval("y", net[2])
    servers[1].hear(Kind.COMMAND)
    servers[0].hear(Kind.KILL)
    servers[0].event_loop.poll(0.05)
    assert servers[0].heard == []
    assert not (command.begun or command.done())
    servers[0].say(Kind.DIED, {"how": "SIGKILL", "last_output": ""})
    with pytest.raises(EngineDiedError, match="SIGKILL in command 'x'"):
        command.result(LIMIT)
    assert not other.done()

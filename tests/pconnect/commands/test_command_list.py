"""One command on several nodes, with scripted servers."""

import pytest

from pconnect import RemoteError, reval
from pconnect.protocol.kinds import Kind
from tests.support.links import FAILURE, LIMIT, Client


def test_a_command_ends_at_each_node(client: Client) -> None:
    net, servers = client
    command = reval("  x = 1", net)
    assert not command.done()
    assert repr(command) == "<command 'x = 1' on nodes [1, 2], running>"
    for far in servers:
        message = far.hear(Kind.COMMAND)
        assert message.value == ["x = 1", 0, {}]
        far.end(message.tag, 0.5)
    command.result(LIMIT)
    assert command.done()
    assert "done" in repr(command)


def test_errors_of_several_nodes_come_as_a_group(client: Client) -> None:
    net, servers = client
    command = reval("1 / 0", net)
    for far in servers:
        far.end(command.number, FAILURE)
    with pytest.raises(ExceptionGroup, match=r"failed on 2 nodes \(1 and 2\); \w+ on node 1") as group:
        command.result(LIMIT)
    assert [error.node for error in group.value.exceptions if isinstance(error, RemoteError)] == [1, 2]


def test_commands_are_a_sequence(client: Client) -> None:
    net, servers = client
    commands = reval("a", net)
    assert [command.node for command in commands[:1]] == [1]
    assert commands[1].host == "host2"
    for far in servers:
        far.end(commands.number, 0.5)
    assert commands.result(LIMIT) is None
    assert commands.done() and not commands.cancel() and not commands.cancelled()

import pytest

from pconnect import reval
from pconnect.errors import RemoteError
from pconnect.session.remote_calls import run
from pconnect.views.network_views import ClientNetwork
from tests.support.links import Client


def test_a_command_has_its_result_or_its_error(network: ClientNetwork) -> None:
    commands = run("'<i>' * sockets.node if sockets.node == 2 else 1 / 0", network, wants_value=True)
    assert commands.exception(60) is not None
    table = commands._repr_html_()
    assert "&#x27;&lt;i&gt;&lt;i&gt;&#x27;" in table
    assert "ZeroDivisionError at node 1" in table
    assert "failed" in table and "done" in table
    assert "Traceback" not in table
    assert "ZeroDivisionError" in commands[0]._repr_html_()


def test_to_look_at_a_table_is_not_to_ask_for_the_error(client: Client) -> None:
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

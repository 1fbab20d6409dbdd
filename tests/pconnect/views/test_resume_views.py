"""The attributes for an earlier client; a new network has no values there."""

from tests.support.servers import Server


def test_a_new_network_has_nothing_of_a_client_before(server: Server) -> None:
    with server.connect(2) as net:
        net.eval("1").result(20.0)
        assert (net.resumed, net.commands, net.values_lost) == (False, [], {1: 0, 2: 0})
        assert net[2:].values_lost == {2: 0}

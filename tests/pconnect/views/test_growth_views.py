"""Methods that only a whole network has; tests/pconnect/growth tests their effects."""

import pytest

from pconnect import ConfigurationError
from pconnect.session.server import Server as NodeOnClient
from pconnect.views.network_views import ClientConnection, ResumableConnection
from tests.support.servers import Server


def test_only_a_whole_network_changes(server: Server) -> None:
    with server.connect(1) as net:
        assert net.is_whole
        with pytest.raises(ConfigurationError, match=r"add\(\) needs a whole network"):
            net[1:].add(server.host)
        assert not hasattr(net[1], "add")


def test_new_nodes_are_what_the_others_are(server: Server) -> None:
    with server.connect(1) as net:
        net.add(server.host)
        assert type(net[2]) is type(net[1]) is ClientConnection
        assert isinstance(net[2].peer, NodeOnClient)
        assert net._make == (ClientConnection, ResumableConnection)

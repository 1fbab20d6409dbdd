"""Values for jobs on nodes that are added later."""

import time

import pytest

from pconnect import RemoteError
from pconnect.growth.kept_values import send_kept_values
from pconnect.session.remote_calls import client_mesh
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


def test_new_nodes_have_what_all_have_and_nothing_else(server: Server) -> None:
    with server.connect(2) as net:
        everywhere, once = net.broadcast([1, 2]), net[1].broadcast([3])
        gone = net.broadcast("gone")
        gone.release()
        assert net.add(server.host) == [3]
        assert list(net[3].map(sum, [everywhere])) == [3]
        with pytest.raises(RemoteError, match="this node does not have the broadcast value"):
            list(net[3].map(sum, [once]))
        kept = client_mesh(net.mesh).jobs.broadcasts
        assert [value for value, _ in kept.values()] == [[1, 2], [3]]
        send_kept_values(client_mesh(net.mesh), [], time.monotonic() + DEADLINE)
        everywhere.release()
        once.release()
        assert kept == {}

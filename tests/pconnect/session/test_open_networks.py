from pconnect.session import open_networks
from pconnect.session.client_mesh import ClientMesh
from tests.support.servers import Server


def test_the_newest_is_last_and_a_closed_one_is_forgotten(server: Server) -> None:
    before = open_networks.all_open()
    with server.connect() as first, server.connect() as second:
        assert open_networks.all_open() == [*before, first.mesh, second.mesh]
    assert open_networks.all_open() == before


def test_watchers_are_called_for_all_networks(server: Server) -> None:
    seen: list[ClientMesh] = []
    with server.connect() as first:
        open_networks.watch(seen.append)
        with server.connect() as second:
            assert seen[-2:] == [first.mesh, second.mesh]
        open_networks.unwatch(seen.append)
        count = len(seen)
        with server.connect():
            assert len(seen) == count

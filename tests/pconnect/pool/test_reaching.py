"""Logins at servers expected at some addresses; for the consequences see test_following.py."""

import pytest

from pconnect.link.host_names import parse_hosts
from pconnect.pool.reaching import reach
from pconnect.session.remote_calls import client_mesh
from srp_tools.steps import deadline_after
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until


def test_only_the_expected_server_gets_a_session(
    server: Server, one_slot: Server, two_slots: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(of: Server) -> str:
        with of.connect() as net:
            return client_mesh(net.mesh).servers[1].location.id

    one, two = identity(one_slot), identity(two_slots)
    with server.connect() as net:
        mesh = client_mesh(net.mesh)
        nowhere = "127.0.0.1:1"
        wanted = {
            "66" * 16: parse_hosts([one_slot.host, nowhere]),
            one: parse_hosts([nowhere, two_slots.host, one_slot.host]),
            two: parse_hosts([two_slots.host]),
            mesh.servers[1].location.id: parse_hosts([server.host]),  # the network has this server already
        }
        found, failures = reach(mesh, wanted, deadline_after(DEADLINE))
        assert sorted((each.id, each.host.label) for each in found.values()) == sorted(
            [(one, one_slot.host), (two, two_slots.host)]
        )
        assert list(found) == [2, 3]
        assert {id_: type(error).__name__ for id_, error in failures.items()} == {
            "66" * 16: "ConnectionRefusedError",
            mesh.servers[1].location.id: "UnwantedServerError",
        }
        assert net.nodes == [0, 1]
        for each in found.values():
            mesh.event_loop.discard(each.server.command)
        wait_until(lambda: not one_slot.sessions(net), "the end of the session")

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("pconnect.pool.reaching.id_of", broken)
        with pytest.raises(ZeroDivisionError):
            reach(mesh, wanted, deadline_after(DEADLINE))

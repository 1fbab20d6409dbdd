"""A client that resumes the session of a real server, in the same process; more: tests/integration/test_resume.py."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pconnect import ConnectError, pconnect, precv
from pconnect.growth import outcomes
from pconnect.link.missing_hosts import Attendance
from pconnect.resume.come_back import come_back
from pconnect.resume.resume_file import ResumeFile, read_file
from pconnect.session.remote_calls import client_mesh
from pconnect.views.network_views import ClientNetwork
from srp_tools.steps import deadline_after
from tests.support.old_servers import old_at
from tests.support.servers import Server, connect
from tests.support.waiting import DEADLINE

LIMIT = 20.0
Vanish = Callable[[ClientNetwork], None]


def back(saved: ResumeFile, server: Server, *, takes_over: bool = False) -> ClientNetwork | None:
    attendance = Attendance(list(saved.hosts))
    return come_back(saved, server.credentials, attendance, deadline_after(DEADLINE), takes_over=takes_over)


def saved_of(file: Path) -> ResumeFile:
    saved = read_file(file)
    assert saved is not None
    return saved


@pytest.mark.parametrize("local_links", [True, False], ids=["unix", "TLS"])
def test_all_nodes_are_resumed_with_their_data(
    local_links: bool, waiting_server: Server, tmp_path: Path, vanish: Vanish
) -> None:
    net = connect([waiting_server] * 3, resume=tmp_path / "f", local_links=local_links)
    net.eval("x = sockets.node; psend(x, sockets[0])").result(LIMIT)
    number = (last := net.eval("x"))[0].number
    last.result(LIMIT)
    assert precv(net[1], timeout=LIMIT) == 1
    vanish(net)
    again = back(saved_of(tmp_path / "f"), waiting_server)
    assert again is not None
    assert again.resumed
    assert again.pull("x") == [1, 2, 3]
    assert [precv(node, timeout=LIMIT) for node in again[2:]] == [2, 3]
    assert again.eval("x")[0].number > number + 2**20
    assert {node.transport for node in again[1:]} == {"unix" if local_links else "tls"}
    again.restart(timeout=LIMIT)
    again.close()
    assert back(saved_of(tmp_path / "f"), waiting_server) is None  # the network was closed


def test_a_connected_client_keeps_its_network(waiting_server: Server, tmp_path: Path) -> None:
    with connect([waiting_server], resume=tmp_path / "f") as net:
        saved = saved_of(tmp_path / "f")
        with pytest.raises(ConnectError, match="another client has this session"):
            back(saved, waiting_server)
        assert net.eval("1").result(LIMIT) == [1]
        other = back(saved, waiting_server, takes_over=True)
        assert other is not None
        other.close()


def test_pconnect_resumes_a_network(waiting_server: Server, tmp_path: Path, vanish: Vanish) -> None:
    net = connect([waiting_server], resume=tmp_path / "f")
    vanish(net)
    user, password = waiting_server.credentials.user, waiting_server.credentials.password
    with pconnect(resume=tmp_path / "f", profile="", timeout=DEADLINE, user=user, password=password) as again:
        assert again.resumed
        assert again.network_id == net.network_id


def test_former_servers_and_exclusiveness_are_restored(
    waiting_server: Server, tmp_path: Path, vanish: Vanish
) -> None:
    net = connect([waiting_server], resume=tmp_path / "f")
    mesh = client_mesh(net.mesh)
    mesh.growth.ids.add("77" * 16)  # the id of a removed node
    [on_change] = mesh.growth.on_change
    on_change()
    vanish(net)
    saved = saved_of(tmp_path / "f")
    again = come_back(
        saved,
        waiting_server.credentials,
        Attendance(list(saved.hosts)),
        deadline_after(DEADLINE),
        takes_over=False,
        is_exclusive=True,
    )
    assert again is not None
    with again:
        found = client_mesh(again.mesh)
        assert found.growth.ids == {"77" * 16, found.servers[1].location.id}
        assert found.mesh_setup is not None and found.mesh_setup.terms is not None
        assert found.mesh_setup.terms.is_exclusive


def test_another_version_is_a_reason_of_its_host(
    waiting_server: Server, tmp_path: Path, vanish: Vanish, monkeypatch: pytest.MonkeyPatch
) -> None:
    vanish(connect([waiting_server], resume=tmp_path / "f"))
    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "log_in_at", old_at(waiting_server))
        with pytest.raises(ConnectError, match="it speaks version 1") as caught:
            back(saved_of(tmp_path / "f"), waiting_server)
    assert list(caught.value.reasons) == [waiting_server.host]
    again = back(saved_of(tmp_path / "f"), waiting_server)
    assert again is not None
    again.close()

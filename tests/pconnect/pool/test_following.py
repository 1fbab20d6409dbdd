"""Networks that follow their pool."""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import pytest

from pconnect import ConfigurationError, as_completed, pconnect
from pconnect.growth.adding import changing
from pconnect.growth.reconnecting import is_lost
from pconnect.link.host_names import parse_hosts
from pconnect.pool import following as following_module
from pconnect.pool.following import DEFAULT_INTERVAL, Following, interval_of
from pconnect.session.mesh_setup import MeshSetup
from pconnect.session.remote_calls import client_mesh
from pconnect.views.network_views import ClientConnection, ClientNetwork
from srp_tools.generate import generate_srp_data
from tests.support.pools import announce
from tests.support.servers import Server, connect, make_users, run_server
from tests.support.waiting import DEADLINE, wait_until

NOTHING = "99" * 16  # an id that no server has
IMPOSTOR = "77" * 16  # another id that no server has


class Pool(NamedTuple):
    alpha: Server  # knows beta, and false entries
    beta: Server
    beta_id: str


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("pool")
    users = make_users(folder / "users")
    generate_srp_data(member=True, folder=folder / "users", bits=2048)
    state = f"--spool-dir={folder / 'state'}"
    with (
        run_server(folder / "a", "--slots=1", state, users=users) as alpha,
        run_server(folder / "b", "--slots=2", state, f"--join={alpha.host}", users=users) as beta,
    ):
        wait_until(lambda: alpha.ask("members")["members"] != [], "beta to announce itself")
        [beta_id] = [member["id"] for member in alpha.ask("members")["members"]]
        announce(alpha, id=NOTHING, cmd_port=1)
        announce(alpha, id=IMPOSTOR, cmd_port=beta.cmd_port, addresses=[alpha.host])
        yield Pool(alpha, beta, beta_id)


def _meet(folder: str) -> int:
    """Return once two engines have called this."""
    (Path(folder) / str(os.getppid())).touch()
    deadline = time.monotonic() + DEADLINE
    while len(list(Path(folder).iterdir())) < 2:
        assert time.monotonic() < deadline, "no other engine"
        time.sleep(0.01)
    return 1


def _gather(net: ClientNetwork, folder: str) -> list[int]:
    async def results() -> list[int]:
        return await asyncio.gather(*[net.submit(_meet, folder) for _ in range(4)])

    return asyncio.run(results())


def _joblib(net: ClientNetwork, folder: str) -> list[int]:
    with joblib.parallel_config("pserver", network=net):
        return list(joblib.Parallel()(joblib.delayed(_meet)(folder) for _ in range(4)))


WAYS: dict[str, Callable[[ClientNetwork, str], list[int]]] = {
    "map": lambda net, folder: list(net.map(_meet, [folder] * 4)),
    "unordered": lambda net, folder: list(net.map(_meet, [folder] * 4, ordered=False)),
    "as_completed": lambda net, folder: [
        job.result() for job in as_completed([net.submit(_meet, folder) for _ in range(4)])
    ],
    "short waits": lambda net, folder: _in_short_waits([net.submit(_meet, folder) for _ in range(4)]),
    "pool": lambda net, folder: net.pool().map(_meet, [folder] * 4, chunksize=1),
    "asyncio": _gather,
    "joblib": _joblib,
}


def _in_short_waits(jobs: list[Any]) -> list[int]:
    for job in jobs:
        while not job.done():
            try:
                job.result(0.05)
            except TimeoutError:
                continue
    return [job.result() for job in jobs]


@pytest.mark.parametrize(
    "way",
    ["map", "unordered", "as_completed", "joblib"]
    + [pytest.param(way, marks=pytest.mark.slow) for way in ("short waits", "pool", "asyncio")],
)
def test_however_one_waits_a_server_that_comes_gets_jobs(pool: Pool, way: str, tmp_path: Path) -> None:
    with connect([pool.alpha], elastic=0.1) as net:
        assert WAYS[way](net, str(tmp_path)) == [1] * 4
        assert (net.nodes, net[2].host.rpartition(":")[2]) == ([0, 1, 2], str(pool.beta.cmd_port))


def test_the_interval_option() -> None:
    assert (interval_of(False), interval_of(True), interval_of(2)) == (0.0, DEFAULT_INTERVAL, 2.0)
    for wrong in (-1, 0, float("inf"), "often"):
        with pytest.raises(ConfigurationError, match="give True, False, or seconds"):
            interval_of(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="elastic and use_tls=False"):
        pconnect("127.0.0.1:1", elastic=True, use_tls=False, profile="")


class Followed(NamedTuple):
    """A network and its `Following`, with a clock controlled by the test."""

    net: ClientNetwork
    following: Following
    now: list[float]

    def look(self, seconds: float) -> None:
        """Search once after some seconds."""
        self.now[0] += seconds
        self.following.look()


@pytest.fixture
def followed(pool: Pool) -> Iterator[Followed]:
    with connect([pool.alpha]) as net:
        mesh, now = client_mesh(net.mesh), [100.0]
        following = mesh.growth.follower = Following(mesh, 5.0, ClientConnection, lambda: now[0])
        yield Followed(net, following, now)


def test_a_server_gets_one_engine_regardless_of_reports(
    pool: Pool, followed: Followed, tmp_path: Path
) -> None:
    net, beta = followed.net, pool.beta
    mesh = client_mesh(net.mesh)
    followed.look(5.0)
    assert (net.nodes, pool.beta_id in mesh.growth.ids) == ([0, 1, 2], True)
    # At the addresses of the false entries are beta, alpha, and no server.
    for _ in range(3):
        followed.look(1000.0)
    assert net.nodes == [0, 1, 2]
    assert sorted(net.missing) == sorted([f"127.0.0.1:{beta.cmd_port}", "127.0.0.1:1"])
    # A lost server is not a new one.
    for pid in beta.sessions(net):
        os.kill(pid, signal.SIGKILL)
    mesh.event_loop.run_until(
        lambda: is_lost(mesh.servers[2]), time.monotonic() + DEADLINE, "the loss of the node"
    )
    followed.look(1000.0)
    job = net[1].submit(_meet, str(tmp_path))  # while there are jobs, the node is brought back
    wait_until(lambda: "runs jobs again" in mesh.growth.healing.get(2, ""), "it to come back for jobs")
    (tmp_path / "one").touch()
    (tmp_path / "two").touch()
    assert job.result(DEADLINE) == 1
    followed.look(1000.0)
    assert net.nodes == [0, 1, 2]
    assert net.reconnect() == [2]
    assert net.eval("len(sockets)").result(DEADLINE) == [3, 3]
    # A removed server comes back only when the user says so.
    net.remove(2)
    followed.look(1000.0)
    assert net.nodes == [0, 1]
    assert net.add(beta.host) == [3]
    followed.look(1000.0)
    assert net.nodes == [0, 1, 3]


def test_a_failing_server_waits_longer_each_time_and_takes_no_number(pool: Pool, followed: Followed) -> None:
    net, following = followed.net, followed.following
    client_mesh(net.mesh).growth.ids.add(pool.beta_id)
    followed.look(0.0)
    tries = {id_: failure.pause for id_, failure in following._failures.items()}
    assert tries == {NOTHING: 5.0, IMPOSTOR: 5.0}
    for seconds, pause in [(4.0, 5.0), (1.0, 10.0), (9.0, 10.0), (1.0, 20.0), (1e6, 40.0)]:
        followed.look(seconds)
        assert following._failures[NOTHING].pause == pause
    for _ in range(5):
        followed.look(1e6)
    assert following._failures[NOTHING].pause == 300.0
    assert (len(net.mesh.connections), net.mesh.change) == (2, "")
    # Another address comes first each time, because one that is silent uses up all the time.
    hosts = parse_hosts(["alpha", "beta"])
    followed.now[0] += 1e6
    first = [following._choose({id_: hosts})[id_][0].name for id_ in (NOTHING, "11" * 16)]
    assert first == [hosts[following._failures[NOTHING].count % 2].name, "alpha"]
    # Servers that are no longer listed are forgotten.
    following._forget_unlisted({IMPOSTOR: []})
    assert list(following._failures) == [IMPOSTOR]
    assert list(net.missing) == [f"127.0.0.1:{pool.beta.cmd_port}"]


def test_one_that_does_not_become_a_member_waits_long(
    pool: Pool, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, following = followed.net, followed.following
    with monkeypatch.context() as patch:
        patch.setattr(MeshSetup, "dial", _refuse)
        followed.look(0.0)
    assert (net.nodes, sorted(net.mesh.removed)) == ([0, 1], [2])
    assert following._failures[pool.beta_id].pause == 600.0
    followed.look(599.0)
    assert net.nodes == [0, 1]
    followed.look(1.0)
    assert net.nodes == [0, 1, 3]
    assert pool.beta_id not in following._failures


def _refuse(*_: Any, **__: Any) -> Any:
    raise ConnectionRefusedError("nobody is let in")
    yield


def test_calls_that_change_nodes_wait_for_each_other(
    pool: Pool, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, following = followed.net, followed.following
    mesh = client_mesh(net.mesh)
    with changing(mesh, "nodes are being tested"):
        followed.look(0.0)  # the login succeeds, and is then abandoned
    assert net.nodes == [0, 1]
    wait_until(lambda: not pool.beta.sessions(net), "the end of that session")
    begun, may_go_on = threading.Event(), threading.Event()
    take: Any = following_module.__dict__["take_in"]

    def slowly(*args: Any, **options: Any) -> Any:
        begun.set()
        assert may_go_on.wait(DEADLINE)
        return take(*args, **options)

    monkeypatch.setattr(following_module, "take_in", slowly)
    followed.now[0] = 1000.0
    following.begin()
    following.begin()  # no second search at the same time
    assert begun.wait(DEADLINE)
    threading.Timer(0.05, may_go_on.set).start()
    assert net.add(pool.alpha.host) == [3]
    assert net.nodes == [0, 1, 2, 3]


def test_closing_the_network_ends_a_look(pool: Pool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, connect([pool.alpha]) as net:
        mesh = client_mesh(net.mesh)
        mesh.growth.ids |= {pool.beta_id, IMPOSTOR, NOTHING}
        port = silent.getsockname()[1]
        announce(pool.alpha, id="55" * 16, cmd_port=port)
        following = mesh.growth.follower = Following(mesh, 0.001, ClientConnection)
        wait_until(lambda: time.monotonic() > following._due, "it to be time")
        following.begin()
        accepted, _ = silent.accept()  # the client now waits for an answer
        with accepted:
            net.close()
            thread = following._thread
            assert thread is not None and not thread.is_alive()
        announce(pool.alpha, do="leave", id="55" * 16, at=2.0)


def test_without_a_thread_it_tries_again_later(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    followed.now[0] += 5.0
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        followed.following.begin()
    assert followed.following._due == followed.now[0] + 5.0

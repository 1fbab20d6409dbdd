"""Networks that outlive their certificates many times; here these last a few seconds."""

import datetime
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pconnect import Network, restart, reval
from pconnect.session.login import LoginTerms, add_node
from srp_tools import certificates
from srp_tools.steps import deadline_after, run
from tests.support.networks import assert_neighbours_talk
from tests.support.servers import Server
from tests.support.waiting import DEADLINE

pytestmark = pytest.mark.slow
LIFETIME = 6.0  # longer than a login takes on a busy machine


@pytest.fixture(autouse=True)
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LIFETIME", datetime.timedelta(seconds=LIFETIME))


@pytest.fixture
def net(server: Server) -> Iterator[Network]:
    with server.connect(3, local_links=False) as made:
        yield made


def outlive(net: Network | None) -> None:
    """Let several certificate lifetimes pass, with or without use of the network."""
    end = time.monotonic() + 1.5 * LIFETIME
    while time.monotonic() < end:
        if net is not None:
            assert net.eval("1").result(DEADLINE) == [1, 1, 1]  # type: ignore[attr-defined]
        time.sleep(0.1)


def add(net: Network) -> None:
    """Add a node, as far as its login."""
    setup: Any = net.mesh.mesh_setup  # type: ignore[attr-defined]
    terms = LoginTerms(
        setup.network_id, None, setup.authority, setup.tls, setup.limits, 30.0, network_key=setup.network_key
    )
    first = net.mesh.servers[1]  # type: ignore[attr-defined]
    run(add_node(first, 9, terms), deadline_after(DEADLINE)).command.close()


@pytest.mark.parametrize("is_used", [True, False])
def test_a_restart_and_a_further_node(net: Network, is_used: bool) -> None:
    outlive(net if is_used else None)
    restart(net[2], timeout=DEADLINE)
    assert_neighbours_talk(net)
    add(net)
    outlive(net if is_used else None)
    restart(net, timeout=DEADLINE)
    assert_neighbours_talk(net)


def test_the_first_jobs_come_late(net: Network) -> None:
    outlive(None)
    assert net.submit(pow, 2, 5).result(DEADLINE) == 32  # type: ignore[attr-defined]


def test_workers_are_made_while_only_jobs_are_used(net: Network) -> None:
    executor = net.executor(isolate=True)  # type: ignore[attr-defined]
    end = time.monotonic() + 1.5 * LIFETIME
    while time.monotonic() < end:
        assert executor.submit(pow, 2, 5).result(DEADLINE) == 32
        time.sleep(0.1)


def test_an_engine_that_computes_meanwhile(net: Network) -> None:
    computing = reval(
        f"import time\nend = time.time() + {1.5 * LIFETIME}\nwhile time.time() < end: pass", net[1]
    )
    computing.result(DEADLINE)
    restart(net[2], timeout=DEADLINE)
    assert_neighbours_talk(net)

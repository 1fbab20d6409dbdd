"""Engines fork workers between commands, and go on as before."""

import os
import time

import numpy as np
import pytest

from pconnect import local_network, precv, reval
from pconnect.views import ClientNetwork

LIMIT = 20.0


@pytest.fixture(scope="module")
def net() -> object:
    with local_network(1, slots=2) as made:
        yield made


def test_a_worker_is_nobody_s_child_but_the_spawner_s(net: ClientNetwork) -> None:
    engine, spawner = net[1].eval("__import__('os').getpid(), __import__('os').getppid()").result(LIMIT)
    worker, parent, group = net.submit(lambda: (os.getpid(), os.getppid(), os.getpgid(0))).result(LIMIT)
    assert worker != engine
    assert (parent, group) == (spawner, worker)


def test_an_engine_s_connections_are_unharmed_by_forks(net: ClientNetwork) -> None:
    data = np.arange(1e6)
    for number in range(4):
        net["data"] = data + number  # so that the next job needs another worker
        job = net.submit("lambda: float(data[0])")
        assert job.exception(LIMIT) is None
        reval("psend(data, sockets[0])", net[1])
        np.testing.assert_array_equal(precv(net[1], timeout=LIMIT), data + number)


def test_a_busy_engine_forks_when_it_is_idle(net: ClientNetwork) -> None:
    net["fresh"] = 1  # no worker has it
    command = reval("import time; time.sleep(0.4)", net[1])
    begin = time.monotonic()
    job = net.submit(lambda: fresh)  # type: ignore[name-defined] # noqa: F821 - of the workspace
    assert job.result(LIMIT) == 1
    assert time.monotonic() - begin > 0.3
    command.result(LIMIT)

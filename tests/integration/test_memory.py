"""A GiB costs a GiB: arrays are sent from their own memory and received into it."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pconnect import Network, precv, psend, reval
from tests.support.memory import Peak

GIB = 2**30
LIMIT = 100.0  # seconds; it takes about two


@pytest.fixture
def net(network: Callable[..., Network]) -> Iterator[Network]:
    yield network(2)


def test_from_client_to_server(net: Network) -> None:
    array = np.ones(GIB // 8)
    reval("from tests.support.memory import Peak; peak = Peak(); a = precv(sockets[0])", net[1])
    reval("psend((peak.grown, a.nbytes, a[-1]), sockets[0])", net[1])
    peak = Peak()
    psend(array, net[1], timeout=LIMIT)
    grown, size, last = precv(net[1], timeout=LIMIT)
    assert (size, last) == (GIB, 1.0)
    assert GIB <= grown <= 1.1 * GIB
    assert peak.grown <= 0.1 * GIB


def test_from_server_to_client(net: Network) -> None:
    reval(
        f"from tests.support.memory import Peak; a = np.ones({GIB // 8}); peak = Peak(); psend(a, sockets[0])",
        net[1],
    )
    peak = Peak()
    array = precv(net[1], timeout=LIMIT)
    assert (array.nbytes, array[-1]) == (GIB, 1.0)
    assert GIB <= peak.grown <= 1.1 * GIB
    reval("psend(peak.grown, sockets[0])", net[1])
    assert precv(net[1], timeout=LIMIT) <= 0.1 * GIB

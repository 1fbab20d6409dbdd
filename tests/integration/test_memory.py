"""An array costs what it has: it is sent from its own memory and received into that of another.

Nothing is sent before the receiver has begun to measure: an engine takes in what comes, also before its command.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pconnect import Network, precv, psend, reval
from tests.support.memory import Peak

SIZE = 2**28  # bytes, of which a tenth is more than all else that happens meanwhile
LIMIT = 100.0  # seconds; it takes about one


@pytest.fixture
def net(network: Callable[..., Network]) -> Iterator[Network]:
    yield network(2)


def test_from_client_to_server(net: Network) -> None:
    array = np.ones(SIZE // 8)
    reval("from tests.support.memory import Peak; peak = Peak()", net[1]).result(LIMIT)
    reval("a = precv(sockets[0]); psend((peak.grown, a.nbytes, a[-1]), sockets[0])", net[1])
    peak = Peak()
    psend(array, net[1], timeout=LIMIT)
    grown, size, last = precv(net[1], timeout=LIMIT)
    assert (size, last) == (SIZE, 1.0)
    assert SIZE <= grown <= 1.1 * SIZE
    assert peak.grown <= 0.1 * SIZE


def test_from_server_to_client(net: Network) -> None:
    reval(f"from tests.support.memory import Peak; a = np.ones({SIZE // 8}); peak = Peak()", net[1]).result(
        LIMIT
    )
    peak = Peak()
    reval("psend(a, sockets[0])", net[1])
    array = precv(net[1], timeout=LIMIT)
    assert (array.nbytes, array[-1]) == (SIZE, 1.0)
    assert SIZE <= peak.grown <= 1.1 * SIZE
    reval("psend(peak.grown, sockets[0])", net[1])
    assert precv(net[1], timeout=LIMIT) <= 0.1 * SIZE

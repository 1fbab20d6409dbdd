"""Checks that networks work."""

from pconnect import Network, precv, reval
from pconnect.views.network_views import ClientNetwork
from tests.support.waiting import DEADLINE


def assert_neighbours_talk(net: Network) -> None:
    """Have each of three engines send to the two others and return the sum here."""
    reval(
        "others = [c for c in sockets if not c.is_own and c.node]\n"
        "for c in others: psend(sockets.node, c)\n"
        "psend(sum(precv(c) for c in others), sockets[0])",
        net,
    )
    assert [precv(c, timeout=DEADLINE) for c in net[1:]] == [5, 4, 3]


def assert_works(net: ClientNetwork) -> None:
    """Run a command, fetch a value and run a job on each engine, or on one."""
    nodes = list(range(1, len(net)))
    assert net.eval("sockets.node").result(DEADLINE) == nodes
    reval("psend(sockets.node, sockets[0])", net)
    assert [precv(net[node], timeout=DEADLINE) for node in nodes] == nodes
    assert net.submit(lambda: 7).result(DEADLINE) == 7

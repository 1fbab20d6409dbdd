"""A network in one process has the attributes of a network of servers."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from pconnect import (
    ConfigurationError,
    ConnectionLostError,
    barrier,
    network_get_info,
    precv,
    psend,
    quiet,
    reval,
    rfeval,
    sclose,
    select_sockets,
    serial,
)
from pconnect.executors.executor import Executor
from pconnect.one_process.executor import SerialExecutor
from pconnect.one_process.network import SerialNetwork
from pconnect.one_process.view import Refused, SerialNode
from pconnect.views.network_views import ClientConnection, ClientNetwork


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_it_has_the_public_names_of_a_network_of_servers(network: ClientNetwork) -> None:
    with serial(2) as net:
        assert public(net) == public(network)
        assert public(net[1]) == public(network[1])
    assert public(Executor) <= public(SerialExecutor)


@pytest.mark.parametrize(("ours", "theirs"), [(SerialNetwork, ClientNetwork), (SerialNode, ClientConnection)])
def test_its_methods_have_the_same_parameters(ours: type, theirs: type) -> None:
    for name in public(theirs) & public(ours):
        method = getattr(ours, name)
        if inspect.isfunction(method) and inspect.isfunction(getattr(theirs, name)):
            parameters = list(inspect.signature(method).parameters.values())
            expected = list(inspect.signature(getattr(theirs, name)).parameters.values())
            described = [(each.name, each.kind, each.default) for each in parameters]
            assert described == [(each.name, each.kind, each.default) for each in expected], name


def test_nodes_and_parts() -> None:
    net = serial(3)
    assert (len(net), net.node, net.nodes, net[1:].nodes, net[[1, 3]].nodes) == (
        4,
        0,
        [0, 1, 2, 3],
        [1, 2, 3],
        [1, 3],
    )
    assert [node.node for node in net] == [0, 1, 2, 3]
    assert (net[0].is_own, net[2].is_own, net[2].host) == (True, False, "this process")
    assert net["this process"].nodes == [1, 2, 3]
    assert net[[False, True, False, True]].nodes == [1, 3]
    assert (net.jobs, net.missing, len(net.network_id)) == ({}, {}, 32)
    with pytest.raises(IndexError, match="no node 4"):
        net[4]
    with pytest.raises(KeyError, match="no node is on host 'alpha'"):
        net["alpha"]
    with pytest.raises(ConfigurationError, match="node 0 is this node itself"):
        net[0].eval("1")
    for n in (0, -1, 1.5, True, "2", 10**6):
        with pytest.raises(ConfigurationError, match="a whole number of nodes from 1 to 10000"):
            serial(n)  # type: ignore[arg-type]


def test_calls_that_take_a_network() -> None:
    with serial(2) as net:
        reval("x = sockets.node", net).result()
        assert net.pull("x") == [1, 2]
        assert reval("y = 1", net[1]).result() is None
        assert rfeval("divmod", 17, 5, connection=net[1]) == (3, 2)
        with quiet(net):
            assert net.eval("x").result() == [1, 2]
        assert sclose(net) == []  # type: ignore[arg-type]
    assert net.closed
    for use in (
        lambda: net.eval("1"),
        lambda: net.submit(abs, 1),
        lambda: net.push(a=1),
        lambda: net.pull("x"),
    ):
        with pytest.raises(ConnectionLostError, match="the network is closed"):
            use()


@pytest.mark.parametrize(
    "use",
    [
        lambda net: psend(1, net[1]),
        lambda net: psend(1, net),
        lambda net: precv(net[1]),
        lambda net: select_sockets(net, 0),
        barrier,
        lambda net: net.eval("psend(1, sockets[0])").result(),
        lambda net: net.eval("precv(sockets[0])").result(),
        lambda net: net.eval("allreduce(1, sockets)").result(),
        network_get_info,
        lambda net: net.submit("job_folder").result(),
    ],
)
def test_unavailable_methods_raise_an_explaining_error(use: Callable[[Any], object]) -> None:
    with (
        serial(2) as net,
        pytest.raises(ConfigurationError, match=r"is not available with pconnect.serial\(\)"),
    ):
        use(net)


def test_all_refused_names_say_so() -> None:
    for owner in (serial(), serial()[1]):
        kinds = [kind for kind in type(owner).__mro__ if kind.__module__.startswith("pconnect.one_process")]
        refused = {name for kind in kinds for name, value in vars(kind).items() if isinstance(value, Refused)}
        assert {"put", "get", "kill"} <= refused
        for name in refused:
            with pytest.raises(
                ConfigurationError, match=rf"^{name}.* is not available with pconnect.serial\(\)"
            ):
                getattr(owner, name)()


def test_an_engine_cannot_send_commands() -> None:
    with serial() as net, pytest.raises(ConfigurationError, match="only the client"):
        net.eval("sockets.eval('1')").result()


def test_an_unretrieved_error_causes_a_warning() -> None:
    net = serial(2)
    net[1].eval("1 / 0")
    with pytest.raises(NameError):
        net[2].eval("unknown").result()
    with pytest.warns(
        RuntimeWarning, match=r"never retrieved: ZeroDivisionError.*'1 / 0' on node 1"
    ) as caught:
        net.close()
    assert [each.filename for each in caught] == [__file__]
    assert net.close() == []

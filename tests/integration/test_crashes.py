"""All failures of a command, in all places, and their effects on all nodes.

Node 1 fails in some way, at the beginning of a command or inside a call of this package. Inside a call, the user's code
fails: the functions that encode or decode an object of a registered type, and the operator of a reduction. Node 2 waits
for node 1 in its counterpart of that call.
"""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pconnect import (
    ConfigurationError,
    ConnectionLostError,
    EngineDiedError,
    RemoteError,
    UnreadableValueError,
    UnsupportedValueError,
    reval,
)
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server
from tests.support.waiting import DEADLINE

PREPARATION = """
import os, resource, signal
from pconnect import register_type

class Odd:
    pass

def exhaust_memory():
    # A limit on the address space, as batch systems set it. The engine needs some memory to report the error.
    with open('/proc/self/statm') as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**26, before[1]))
    try:
        held = [bytearray(2**24) for _ in range(100)]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)

def raise_error():
    raise LookupError('of the user')

def crash():
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)

def fail(*_):
    FAILURE()

register_type(Odd, 'tests.Odd', fail if sockets.node == 1 else lambda odd: 1,
              fail if sockets.node == 1 else lambda value: Odd())
"""

# How node 1 fails, and the reported error.
FAILURES = {
    "exception": ("raise_error()", LookupError, "of the user"),
    "SystemExit": ("raise SystemExit(3)", RemoteError, "SystemExit"),
    "no memory": ("exhaust_memory()", MemoryError, "MemoryError"),
    "os._exit": ("os._exit(7)", EngineDiedError, "died: exit status 7"),
    "SIGSEGV": ("crash()", EngineDiedError, "died: SIGSEGV"),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", EngineDiedError, "died: SIGKILL"),
}

# Where node 1 fails, and the code of node 2 meanwhile.
PLACES = {
    "start": ("fail()", "precv(sockets[1])"),
    "psend": ("psend(Odd(), sockets[2])", "precv(sockets[1])"),
    "precv": ("precv(sockets[2])", "psend(Odd(), sockets[1]); precv(sockets[1])"),
    "collective": ("allreduce(1, sockets[1:3], op=fail)", "allreduce(1, sockets[1:3], op=fail)"),
}


@pytest.fixture
def net(server: Server) -> Iterator[ClientNetwork]:
    with server.connect(3) as network:
        reval(PREPARATION, network).result(DEADLINE)
        network["kept"] = "from before"
        yield network


def assert_goes_on(net: ClientNetwork, *nodes: int) -> None:
    """Check that these nodes have kept their variables and can still communicate in all ways."""
    part = net[list(nodes)]
    assert part.pull("kept", timeout=DEADLINE) == ["from before"] * len(nodes)
    members = f"sockets[{list(nodes)}]"
    assert part.eval(f"allreduce(sockets.node, {members})").result(DEADLINE) == [sum(nodes)] * len(nodes)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_told_as_what_it_is_and_harms_nobody_else(
    net: ClientNetwork, failure: str, place: str
) -> None:
    source, kind, words = FAILURES[failure]
    at_1, at_2 = PLACES[place]
    reval(f"def FAILURE():\n    {source}", net[1]).result(DEADLINE)
    reval("FAILURE = lambda: 0", net[2]).result(DEADLINE)
    partner = reval(at_2, net[2])
    other = net[3].eval("sum(range(10))")
    failing = reval(at_1, net[1])
    kind = expected_kind(failure, place, kind)
    with pytest.raises(kind, match=words) as told:
        failing.result(DEADLINE)
    assert "node 1 (" in str(told.value)
    dies = issubclass(kind, EngineDiedError)
    if dies or place == "collective":
        error = partner.exception(DEADLINE)
        assert isinstance(error, RemoteError)
        assert (
            isinstance(error, ConnectionLostError)
            if dies and place != "collective"
            else "node 1" in str(error)
        )
    else:  # it waits for values that node 1 may still send
        reval("psend('at last', sockets[2])", net[1]).result(DEADLINE)
        partner.result(DEADLINE)
    assert other.result(DEADLINE) == 45
    if dies:
        with pytest.raises(EngineDiedError, match=words):
            reval("1", net[1]).result(DEADLINE)
        assert_goes_on(net, 2, 3)
    else:
        assert_goes_on(net, 1, 2, 3)


def expected_kind(failure: str, place: str, kind: type[Exception]) -> type[Exception]:
    """Return the client's error: psend and precv wrap errors of the user's code in their own."""
    if issubclass(kind, EngineDiedError) or failure == "SystemExit":
        return kind
    return {"psend": UnsupportedValueError, "precv": UnreadableValueError}.get(place, kind)


@pytest.mark.parametrize("place", ["function", "argument"])
def test_what_cannot_be_pickled_is_refused_here(net: ClientNetwork, place: str) -> None:
    lock: Any = sys._getframe()
    with pytest.raises(ConfigurationError, match="cannot be sent: TypeError: cannot pickle 'frame' object"):
        if place == "function":
            net.apply(lambda: lock)
        else:
            net.apply(len, lock)
    assert_goes_on(net, 1, 2, 3)


@pytest.mark.parametrize(
    "source",
    [
        "object()",
        "psend([1, object()], sockets[2])",
        "psend(object(), sockets[0])",
        "bcast(object(), sockets[1:3], root=0)",
    ],
)
def test_what_cannot_be_sent_fails_its_command_alone(net: ClientNetwork, source: str) -> None:
    failing = net[1].eval(source)
    partner = net[2].eval("bcast(None, sockets[1:3], root=0)") if "bcast" in source else net[2].eval("2")
    with pytest.raises(UnsupportedValueError, match=r"cannot send <class 'object'>"):
        failing.result(DEADLINE)
    if "bcast" in source:
        with pytest.raises(RemoteError, match="node 1"):
            partner.result(DEADLINE)
    else:
        assert partner.result(DEADLINE) == 2
    assert_goes_on(net, 1, 2, 3)


def test_a_result_that_dies_on_its_way(net: ClientNetwork) -> None:
    """The engine ends while it sends the array that is its result."""
    command = net[1].eval("import threading; threading.Timer(0.05, os._exit, [9]).start(); np.zeros(2**30)")
    with pytest.raises(EngineDiedError, match="exit status 9"):
        command.result(DEADLINE)
    assert_goes_on(net, 2, 3)


def test_an_array_of_what_memory_there_is_not(net: ClientNetwork) -> None:
    with pytest.raises(MemoryError, match="node 1"):
        net[1].eval("np.empty(2**45)").result(DEADLINE)
    assert_goes_on(net, 1, 2, 3)

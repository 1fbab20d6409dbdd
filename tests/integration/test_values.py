"""Every value of the corpus, sent by real processes: client to server, server to server, server to client.

The engines have the corpus themselves, so each receiver compares a value with its own copy.
"""

import enum
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pconnect import (
    Network,
    UnavailableTypeError,
    UnreadableValueError,
    precv,
    psend,
    register_type,
    reval,
    select_sockets,
)
from pconnect.values import registry
from tests.support.servers import Server
from tests.support.values import VALUES, assert_same
from tests.support.waiting import DEADLINE

ROOT = Path(__file__).parent.parent.parent

# An engine runs in the client's directory, which is not always the tests' directory.
PREPARE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.dont_write_bytecode = {sys.dont_write_bytecode}
from tests.support.values import VALUES, assert_same

def compare(connection):
    for name, value in VALUES:
        try:
            assert_same(value, precv(connection, timeout={DEADLINE}))
        except AssertionError as error:
            raise AssertionError(f"{{name}} arrived changed: {{error}}") from error
"""


class Color(enum.Enum):
    """No engine has imported its module."""

    RED = 1


class Point(NamedTuple):
    """No engine has imported its module either."""

    x: object


@pytest.fixture(scope="module")
def net(server: Server) -> Iterator[Network]:
    with server.connect(2) as made:
        reval(PREPARE, made).result(DEADLINE)
        yield made


def test_from_client_to_server(net: Network) -> None:
    command = reval("compare(sockets[0])", net[1:])
    for _, value in VALUES:
        psend(value, net[1:])
    command.result(DEADLINE)


def test_from_server_to_server(net: Network) -> None:
    sending = reval("for _, value in VALUES: psend(value, sockets[2])", net[1])
    reval("compare(sockets[1])", net[2]).result(DEADLINE)
    sending.result(DEADLINE)


def test_from_server_to_client(net: Network) -> None:
    sending = reval("for _, value in VALUES: psend(value, sockets[0])", net[1])
    for name, value in VALUES:
        try:
            assert_same(value, precv(net[1], timeout=DEADLINE))
        except AssertionError as error:
            raise AssertionError(f"{name} arrived changed") from error
    sending.result(DEADLINE)


def test_a_type_that_is_registered_at_one_end_costs_one_value(
    net: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_entries", {})
    monkeypatch.setattr(registry, "_makers", {})
    reval(
        """
        from pconnect import register_type
        class Point:
            def __init__(self, x): self.x = x
        register_type(Point, "test.Point", lambda point: point.x, Point)
        for x in (1, 2, 0): psend(Point(x), sockets[0])
        psend("next", sockets[0])
        """,
        net[1],
    ).result(DEADLINE)
    with pytest.raises(UnavailableTypeError, match=r"'test\.Point'"):
        precv(net[1], timeout=DEADLINE)
    for _ in range(2):
        with pytest.raises(UnavailableTypeError):
            precv(net[1], timeout=DEADLINE)
    assert precv(net[1], timeout=DEADLINE) == "next"

    reval("for x in (0, 1): psend(Point(x), sockets[0])", net[1])
    assert select_sockets(net[1], DEADLINE) == [0]

    class Inverse:
        def __init__(self, x: float) -> None:
            self.x = 1 / x

    # From now on, values that arrived earlier can be decoded, too.
    register_type(Inverse, "test.Point", lambda inverse: 1 / inverse.x, Inverse)
    with pytest.raises(UnreadableValueError, match="from_value raised ZeroDivisionError"):
        precv(net[1], timeout=DEADLINE)
    assert type(precv(net[1], timeout=DEADLINE)) is Inverse


def test_arguments_have_their_class_in_the_engine_and_results_that_of_the_client(net: Any) -> None:
    def repeat(member: Color, point: Point) -> list[object]:
        return [member, [member.name, type(point).__module__], point]

    member, texts, point = (
        net[1].apply(repeat, Color.RED, point=Point(signal.Signals.SIGINT)).result(DEADLINE)
    )
    assert member is Color.RED and texts == ["RED", __name__]
    assert type(point) is Point and point.x is signal.Signals.SIGINT


def test_a_class_that_the_client_lacks_costs_one_value(net: Any) -> None:
    reval(
        """
        import collections, enum
        class Color(enum.Enum):
            BLUE = 1
        Fit = collections.namedtuple("Fit", "slope error")
        psend(Color.BLUE, sockets[0]); psend(Fit(1.5, [2]), sockets[0])
        """,
        net[1],
    ).result(DEADLINE)
    with pytest.raises(UnavailableTypeError, match=r"__main__\.Color arrived.*define it here"):
        precv(net[1], timeout=DEADLINE)
    fit = precv(net[1], timeout=DEADLINE)
    assert fit == (1.5, [2]) and fit.slope == 1.5
    psend(fit, net[1])
    assert net[1].eval("type(precv(sockets[0])) is Fit").result(DEADLINE)

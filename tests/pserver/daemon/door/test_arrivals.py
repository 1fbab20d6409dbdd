"""The sources of connections, and the choice of a silent one to close."""

import ipaddress
import socket

import pytest

from pserver.daemon.door.arrivals import Arrivals, PendingConnection, Source


def source(address: str, port: int = 1000) -> Source:
    return Source.of((address, port, 0, 0))


@pytest.mark.parametrize(
    ("address", "text", "group"),
    [
        ("10.9.9.1", "10.9.9.1 port 1000", "10.9.9.1"),
        ("::ffff:10.9.9.1", "10.9.9.1 port 1000", "10.9.9.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6 port 1000", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::1%eth0 port 1000", "fe80::/64"),
        ("::1", "::1 port 1000", "::/64"),
    ],
)
def test_a_source_is_text_and_a_group(address: str, text: str, group: str) -> None:
    assert (str(source(address)), source(address).group) == (text, group)


def test_a_source_at_a_unix_socket_is_this_machine() -> None:
    assert (str(Source()), Source().group, Source().address) == ("this machine", "this machine", None)
    assert source("::ffff:1.2.3.4").address == ipaddress.IPv4Address("1.2.3.4")


def pending(address: str, deadline: float = 0.0) -> PendingConnection:
    # A socket that was never opened, because nothing here reads from it.
    return PendingConnection(socket.socket.__new__(socket.socket), source(address), False, deadline)


def test_the_greediest_source_gives_up_its_oldest() -> None:
    arrivals = Arrivals()
    assert arrivals.least_entitled() is None
    honest = pending("10.0.0.1")
    greedy = [pending(f"2001:db8::{number}") for number in range(3)]
    for each in (honest, *greedy):
        arrivals.add(each)
    for expected in greedy[:2]:
        found = arrivals.least_entitled()
        assert found is expected
        arrivals.remove(found)
    assert list(arrivals) == [honest, greedy[2]]
    assert arrivals.least_entitled() is honest  # with equal numbers, the source that came first


def test_deadlines_come_in_order() -> None:
    arrivals = Arrivals()
    assert (arrivals.next_deadline(), arrivals.expired(9.0)) == (None, [])
    each = [pending("10.0.0.1", float(second)) for second in range(4)]
    for one in each:
        arrivals.add(one)
    arrivals.remove(each[0])
    assert arrivals.next_deadline() == 1.0
    assert arrivals.expired(2.0) == each[1:3]
    assert len(arrivals) == 3

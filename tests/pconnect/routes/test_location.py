from typing import Any

import pytest

from pconnect.errors import ConnectionLostError
from pconnect.link.host_names import Host
from pconnect.routes.location import Location, is_loopback

OFFER: dict[str, Any] = {"cmd_port": 12502, "data_port": 12501, "addresses": ["192.0.2.7", "fd00::7"]}
GATE = [["gate", 22502, 22501]]


def located(address: str, host: tuple[Any, ...], **more: Any) -> Location:
    return Location.of_offer(address, Host("a", "a", *host), OFFER | more)


def test_a_server_that_is_reached_as_it_says() -> None:
    location = located("192.0.2.7", (12502,))
    assert location.server == ("192.0.2.7", 12502)
    assert location.places() == [("192.0.2.7", 12501), ("192.0.2.7", 12502)]
    assert location.places_for_others() == [
        ("192.0.2.7", 12501), ("fd00::7", 12501), ("192.0.2.7", 12502),
    ]  # fmt: skip


def test_the_user_knows_the_data_port() -> None:
    location = located("203.0.113.1", (22502, 22501))
    assert location.data_port == 22501
    assert location.places() == [("203.0.113.1", 22501), ("203.0.113.1", 12501), ("203.0.113.1", 22502)]
    assert location.places_for_others()[:2] == [("203.0.113.1", 22501), ("192.0.2.7", 12501)]


def test_the_server_knows_the_data_port() -> None:
    location = located("203.0.113.1", (22502,), advertised=GATE)
    assert location.places()[0] == ("203.0.113.1", 22501)
    assert location.places_for_others() == [
        ("gate", 22501), ("203.0.113.1", 22501), ("192.0.2.7", 12501), ("fd00::7", 12501), ("gate", 22502),
        ("203.0.113.1", 22502),
    ]  # fmt: skip


def test_inside_a_server_that_advertises_has_its_own_ports() -> None:
    location = located("192.0.2.7", (12502,), advertised=[["gate", 12502, 22501]])
    assert location.places()[0] == ("192.0.2.7", 12501)


def test_a_forward_to_this_machine_is_of_no_use_to_others() -> None:
    location = located("127.0.0.1", (9502, 9501))
    assert location.places()[0] == ("127.0.0.1", 9501)
    assert location.places_for_others() == [
        ("192.0.2.7", 12501), ("fd00::7", 12501), ("192.0.2.7", 12502), ("fd00::7", 12502), ("127.0.0.1", 9501),
    ]  # fmt: skip
    only = located("127.0.0.1", (12502,), addresses=[])
    assert only.places_for_others() == [("127.0.0.1", 12501), ("127.0.0.1", 12502)]


def test_one_port_for_everything_is_that_of_the_login() -> None:
    location = located("203.0.113.1", (22502,), data_port=12502)
    assert location.places() == [("203.0.113.1", 22502), ("203.0.113.1", 12502)]


def test_where_it_was_reached_comes_first() -> None:
    location = located("192.0.2.7", (12502,))._replace(proven=("192.0.2.7", 12502))
    assert location.places() == [("192.0.2.7", 12502), ("192.0.2.7", 12501)]


def test_servers_behind_one_address_are_different_ones() -> None:
    first, second = located("203.0.113.1", (22502,)), located("203.0.113.1", (22602,))
    assert first.data_port == second.data_port
    assert first.server != second.server


@pytest.mark.parametrize(
    "wrong",
    [
        {"addresses": "192.0.2.7"},
        {"addresses": [7]},
        {"addresses": ["192.0.2.7"] * 65},
        {"data_port": 0},
        {"data_port": "12501"},
        {"cmd_port": 65536},
        {"advertised": [["gate", 1]]},
        {"advertised": [["", 1, 2]]},
        {"advertised": [["g" * 256, 1, 2]]},
        {"advertised": [["gate", 1, 0]]},
    ],
)
def test_an_offer_that_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConnectionLostError, match="its addresses or ports are malformed"):
        located("192.0.2.7", (12502,), **wrong)


def test_loopback() -> None:
    assert is_loopback("127.0.0.1") and is_loopback("::1") and not is_loopback("fe80::1%eth0")


def test_a_server_without_ports_has_no_address() -> None:
    host = Host("local", "/run/a.logins", 0)
    offer = {"addresses": ["10.0.0.2"], "cmd_port": 0, "data_port": 0, "local": ["here", "/run/a.socket"]}
    quiet = Location.of_offer(host.name, host, offer)
    assert (quiet.addresses, quiet.places(), quiet.places_for_others()) == ([], [], [("/run/a.logins", 0)])
    assert (quiet.server, quiet.local) == (("/run/a.logins", 0), ("here", "/run/a.socket"))

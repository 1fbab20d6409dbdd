import ipaddress
import socket

import pytest

from pserver.system.interfaces import own_addresses


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "0.0.0.0"])
def test_addresses_that_lead_others_to_themselves_are_left_out(bind: str) -> None:
    assert own_addresses(bind) == []


def test_a_bound_address_is_the_only_one() -> None:
    assert own_addresses("192.0.2.7") == ["192.0.2.7"]


def test_all_addresses_of_the_machine_can_be_bound() -> None:
    found = own_addresses(None)
    assert len(set(found)) == len(found)
    for text in found:
        family = socket.AF_INET if ipaddress.ip_address(text).version == 4 else socket.AF_INET6
        with socket.socket(family) as sock:
            sock.bind((text, 0))

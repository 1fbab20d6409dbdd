"""What `pconnect` refuses before it connects. Real networks: `tests.integration`."""

import pytest

from pconnect import ConfigurationError, ConnectError, pconnect
from pconnect.detach.token import Token
from tests.support.waiting import DEADLINE


def test_no_hosts() -> None:
    with pytest.raises(ConfigurationError, match="name at least one server"):
        pconnect([])


def test_hosts_and_a_token() -> None:
    token = Token(bytes(16), bytes(24), (("hostA", 12502),), {1: [1]}, frozenset()).pack()
    with pytest.raises(ConfigurationError, match="the token says which hosts, give only one of them"):
        pconnect("127.0.0.1", recover=token)


def test_every_host_that_fails_is_named_with_its_reason() -> None:
    with pytest.raises(ConnectError) as caught:
        pconnect(["127.0.0.1:1", "127.0.0.1:2"], use_tls=False, timeout=DEADLINE)
    assert set(caught.value.reasons) == {"127.0.0.1:1", "127.0.0.1:2"}
    assert all(isinstance(reason, ConnectionRefusedError) for reason in caught.value.reasons.values())

"""Errors of `pconnect` before it connects. Real networks: `tests.integration`."""

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from pconnect import ConfigurationError, ConnectError, pconnect
from pconnect.detach.token import Token
from pconnect.growth import outcomes
from pconnect.session.login import add_node, log_in_at
from pconnect.session.mesh_setup import MeshSetup
from srp_tools.steps import Steps, Wait
from tests.support.servers import Server, open_files
from tests.support.waiting import DEADLINE


def test_no_hosts() -> None:
    with pytest.raises(ConfigurationError, match="name at least one server"):
        pconnect([])


def test_hosts_and_a_token() -> None:
    token = Token(bytes(16), bytes(24), (("hostA", 12502),), {1: [1]}, frozenset()).pack()
    with pytest.raises(ConfigurationError, match="the token already names the hosts; give only one of them"):
        pconnect("127.0.0.1", recover=token)


def test_every_host_that_fails_is_named_with_its_reason() -> None:
    with pytest.raises(ConnectError) as caught:
        pconnect(["127.0.0.1:1", "127.0.0.1:2"], use_tls=False, timeout=DEADLINE)
    assert set(caught.value.reasons) == {"127.0.0.1:1", "127.0.0.1:2"}
    assert all(isinstance(reason, ConnectionRefusedError) for reason in caught.value.reasons.values())


def interrupted(steps: Callable[..., Steps[Any]]) -> Callable[..., Steps[Any]]:
    """Return the same steps, but raise Ctrl-C on the second run once the first ones have ended."""
    begun, ended = itertools.count(), []

    def stand_in(*args: Any) -> Steps[Any]:
        if next(begun) == 0:
            outcome = yield from steps(*args)
            ended.append(True)
            return outcome
        while not ended:
            with contextlib.suppress(TimeoutError):
                yield Wait(-1, until=time.monotonic() + 0.01)
        raise KeyboardInterrupt

    return stand_in


@pytest.mark.parametrize("stage", ["logins", "joins", "data connections"])
def test_nothing_stays_open_after_an_interrupt(
    stage: str, server: Server, one_slot: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the error is kept, as at Python's prompt, no resource stays open until it is collected."""
    match stage:
        case "logins":
            monkeypatch.setattr(outcomes, "log_in_at", interrupted(log_in_at))
        case "joins":
            monkeypatch.setattr(outcomes, "add_node", interrupted(add_node))
        case _:
            monkeypatch.setattr(MeshSetup, "dial", interrupted(MeshSetup.dial))
    credentials = server.credentials
    before = open_files()
    with pytest.raises(KeyboardInterrupt) as kept:
        pconnect([server.host] * 3 + [one_slot.host], user=credentials.user, password=credentials.password)
    assert open_files() == before
    del kept

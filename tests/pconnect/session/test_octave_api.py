"""Calls on whole nodes: functions called there, and facts about them."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from pconnect import (
    ConfigurationError,
    ConnectionLostError,
    Network,
    RemoteError,
    network_get_info,
    precv,
    reval,
    rfeval,
    sclose,
)
from tests.support.servers import Server


def norm_of(matrix: np.ndarray, order: int) -> float:
    """Return a value on the engine; sent as source text, with the workspace's ``np``."""
    return float(np.linalg.norm(matrix, order))


def test_a_name_is_called(network: Network) -> None:
    result = rfeval("np.linalg.norm", np.array([3.0, 4.0]), connection=network[1])
    assert result == 5.0
    assert type(result) is np.float64


def test_a_function_is_called(network: Network) -> None:
    assert rfeval(norm_of, np.diag([2.0, 7.0]), 2, connection=network[2]) == 7.0


def test_the_call_takes_no_value_that_was_sent_before(network: Network) -> None:
    reval("psend('mine', sockets[0])", network[1]).result()
    assert rfeval("abs", -1, connection=network[1]) == 1
    assert precv(network[1], timeout=10) == "mine"


def test_a_failure_is_the_callers(network: Network) -> None:
    with pytest.raises(RemoteError, match="ZeroDivisionError"):
        rfeval("divmod", 1, 0, connection=network[1])
    assert rfeval("divmod", 7, 2, connection=network[1]) == (3, 1)


def test_any_function_is_called(network: Network) -> None:
    shift = 3
    assert rfeval(lambda x: x + shift, 4, connection=network[1]) == 7
    assert rfeval(len, [1, 2], connection=network[1]) == 2
    assert rfeval(np.add, 1, 2, connection=network[1]) == 3


def test_what_cannot_be_pickled_is_refused_before_anything_is_sent(network: Network) -> None:
    lock = threading.Lock()
    with pytest.raises(ConfigurationError, match="cannot be sent: TypeError: cannot pickle"):
        rfeval(lambda: lock, connection=network[1])
    with pytest.raises(ConfigurationError, match="cannot be called"):
        rfeval(5, connection=network[1])  # type: ignore[arg-type]
    assert rfeval("abs", -2, connection=network[1]) == 2


def test_one_node_is_called(network: Network) -> None:
    with pytest.raises(ConfigurationError, match="on one node, not on 2"):
        rfeval("abs", 1, connection=network[1:])  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_time_limit(network: Network) -> None:
    with pytest.raises(TimeoutError):
        rfeval("__import__('threading').Event().wait", 3, connection=network[2], timeout=0.2)
    assert rfeval("abs", -2, connection=network[2], timeout=30) == 2


def test_a_command_is_text(network: Network) -> None:
    with pytest.raises(ConfigurationError, match="source text, not int"):
        reval(5, network)  # type: ignore[call-overload]


def test_facts_are_live(network: Network) -> None:
    own, first, second = network_get_info(network)
    assert (own["node"], own["local"], own["pid"]) == (0, True, os.getpid())
    assert first["pid"] != second["pid"]
    assert Path(f"/proc/{first['pid']}").exists()
    for info in (first, second):
        assert info["state"] == "open"
        assert (info["transport"], info["encrypted"]) == ("unix", False)
        assert info["numpy"] == np.__version__
        assert info["directory"] == str(Path.cwd())
        assert info["directory_is_clients"]
        assert 0 < info["round_trip"] < 5
        assert info["memory_bytes"] > 10**6
        assert info["address"] == "127.0.0.1"
    facts = network_get_info(network[[2]])
    assert [info["node"] for info in facts] == [2]
    assert "memory (MB)" in repr(facts).splitlines()[0] and len(repr(facts).splitlines()) == 2
    assert facts._repr_html_().startswith("<table>")  # type: ignore[attr-defined]


def test_facts_do_not_wait_for_the_engine(network: Network) -> None:
    command = reval("__import__('threading').Event().wait(1.0)", network[1])
    info = network_get_info(network[[1]])[0]
    assert info["queued"] == 1
    assert info["round_trip"] < 1.0
    command.result()
    assert network_get_info(network[[1]])[0]["queued"] == 0


def test_the_last_error_is_reported(network: Network) -> None:
    with pytest.raises(RemoteError):
        reval("undefined_name", network[2]).result()
    assert network_get_info(network)[2]["last_error"] == "NameError in 'undefined_name'"


def test_an_engine_knows_its_side_and_sends_no_commands(network: Network) -> None:
    source = "__import__('pconnect').network_get_info(sockets)"
    infos = rfeval(f"lambda: {source}", connection=network[1])
    assert [(info["node"], info["local"]) for info in infos] == [(0, False), (1, True), (2, False)]
    with pytest.raises(RemoteError, match="only the client of a network can do this"):
        reval("import pconnect; pconnect.reval('1', sockets)", network[1]).result()
    with pytest.raises(RemoteError, match="only the client closes"):
        reval("pconnect.sclose(sockets)", network[1]).result()


def test_a_closed_network_is_closed(server: Server) -> None:
    with server.connect() as net:
        assert sclose(net) == []
        assert net.closed
        for call in (lambda: reval("1", net), lambda: network_get_info(net)):
            with pytest.raises(ConnectionLostError, match="closed"):
                call()
        assert (sclose(net), net.close(), net[1:].close()) == ([], [], [])

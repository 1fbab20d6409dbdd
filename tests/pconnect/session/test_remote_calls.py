"""Commands with values, and functions with their arguments, on real engines."""

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pconnect import (
    ConfigurationError,
    MessageTooLargeError,
    RemoteError,
    UnsupportedValueError,
    precv,
    reval,
)
from pconnect.commands.command import Command
from pconnect.loop.network import Network
from pconnect.session.remote_calls import call, run
from tests.support.servers import Server

LIMIT = 20.0


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1 + 1", 2),
        ("x = 5\nx * 2", 10),
        ("x = 5", None),
        ("", None),
        ("if True:\n    7", None),
        ("  'indented'", "indented"),
        ("1; 2; 3", 3),
    ],
)
def test_the_value_is_that_of_the_last_expression(network: Network, source: str, value: object) -> None:
    assert run(source, network[1], wants_value=True).result(LIMIT) == value
    assert run(source, network[1]).result(LIMIT) is None


def test_the_same_text_with_and_without_a_value(network: Network) -> None:
    for wanted in (True, False, True):
        value = run("3 * 3", network, wants_value=wanted).result(LIMIT)
        assert value == ([9, 9] if wanted else None)


def test_a_value_that_cannot_be_sent_fails_its_command_and_no_other(network: Network) -> None:
    with pytest.raises(UnsupportedValueError, match=r"value\['a'\].*cannot send.*allow_pickle=True") as error:
        run("{'a': object()}", network[1], wants_value=True).result(LIMIT)
    assert isinstance(error.value, RemoteError)
    value = run("{'a': complex}", network[1], wants_value=True, allow_pickle=True).result(LIMIT)
    assert value == {"a": complex}
    assert run("1", network[1], wants_value=True).result(LIMIT) == 1


def test_arguments_of_any_kind(network: Network) -> None:
    array = np.arange(1e5)
    total = call("lambda a, *, b: float(a.sum()) + b", [array], {"b": 0.5}, network)
    assert total.result(LIMIT) == [array.sum() + 0.5] * 2
    assert (
        call(isinstance, [3, int], {}, network[1]).result(LIMIT) is True
    )  # a class cannot be sent as a value


def test_a_busy_engine_is_not_waited_for_and_the_arguments_are_read_at_once(network: Network) -> None:
    first = reval("import time\ntime.sleep(1.5)", network[1])
    array = np.ones(2**22)
    second = call("np.sum", [array], {}, network[1])
    assert not first.done()
    array[:] = 5
    assert second.result(LIMIT) == 2**22


def test_what_was_sent_for_a_cancelled_call_is_not_taken_by_the_next(network: Network) -> None:
    reval("import time\ntime.sleep(0.5)", network[1])
    cancelled = call("abs", [-1], {}, network[1])
    cancelled.cancel()
    assert call("abs", [-2], {}, network[1]).result(LIMIT) == 2
    assert cancelled.cancelled()
    assert run("list(sockets[0].inbox)", network[1], wants_value=True).result(LIMIT) == []


def test_the_server_enforces_a_time_limit(network: Network) -> None:
    begin = time.monotonic()
    command = run("while True: pass", network[1], time_limit=0.3)
    after = run("'next'", network[1], wants_value=True)
    with pytest.raises(TimeoutError, match=r"the time limit of 0\.3 s passed") as error:
        command.result(LIMIT)
    assert isinstance(error.value, RemoteError)
    assert 0.3 <= time.monotonic() - begin < 10
    assert after.result(LIMIT) == "next"
    assert run("'in time'", network[1], wants_value=True, time_limit=LIMIT).result(LIMIT) == "in time"
    with pytest.raises(ConfigurationError, match="time_limit"):
        run("1", network[1], time_limit=0)


@pytest.mark.slow
def test_an_engine_that_ignores_its_limit_is_killed(server: Server) -> None:
    with server.connect(1) as net:
        source = (
            "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)"
        )
        with pytest.raises(ConnectionError, match="did not end within 5 s of its time limit"):
            run(source, net[1], time_limit=0.2).result(LIMIT)


def test_what_is_too_large_is_not_sent(server: Server) -> None:
    with server.connect(1, max_message_bytes=2**20) as net:
        with pytest.raises(MessageTooLargeError):
            call("len", [bytes(2**21)], {}, net[1])
        with pytest.raises(MessageTooLargeError):
            run("bytes(2**21)", net[1], wants_value=True).result(LIMIT)
        assert call("len", [b"abc"], {}, net[1]).result(LIMIT) == 3


def test_a_function_typed_in_a_notebook_has_its_lines_in_the_traceback(network: Network) -> None:
    source = "def fails(x):\n    return 1 / x  # this line\n"
    import linecache

    name = "<a cell>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), names)
    with pytest.raises(ZeroDivisionError, match="this line"):
        call(names["fails"], [0], {}, network[1]).result(LIMIT)  # type: ignore[arg-type]


def test_an_engine_that_is_gone(server: Server) -> None:
    with server.connect(2) as net:
        with pytest.raises(ConnectionError, match="SIGKILL"):
            reval("import os; os.kill(os.getpid(), 9)", net[1]).result(LIMIT)
        commands = call("abs", [-1], {}, net)
        assert commands[1].result(LIMIT) == 1
        with pytest.raises(ConnectionError, match="SIGKILL"):
            commands.result(LIMIT)
        reval("psend(1, sockets[0])", net[2]).result(LIMIT)
        assert precv(net[2], timeout=LIMIT) == 1


def test_an_interrupt_between_a_call_and_its_arguments(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = network.mesh.post  # type: ignore[attr-defined]

    def post_and_interrupt(commands: Sequence[Command], options: dict[str, Any], service: str) -> None:
        with network.mesh.event_loop.sigint_deferred:
            post(commands, options, service)
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(network.mesh, "post", post_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            call("len", ["abc"], {}, network)
    assert call("len", ["abc"], {}, network).result(LIMIT) == [3, 3]

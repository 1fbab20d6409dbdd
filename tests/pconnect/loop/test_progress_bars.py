import contextlib
import io
import re
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from pconnect import precv, progress_bars, psend, reval
from pconnect.loop.progress import ProgressBar
from pconnect.loop.progress_bars import (
    LARGE_BYTES,
    Meter,
    bars_after,
    counting,
    receiving,
    sending,
)
from pconnect.protocol.kinds import Kind
from pconnect.views.network_views import ClientNetwork
from tests.support.links import Client


class Terminal(io.StringIO):
    """A stream that looks like a terminal."""

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def at_terminal() -> Iterator[Terminal]:
    """Replace standard error by a terminal. Not a fixture, because pytest sets its own stream after those."""
    progress_bars(after=0)
    with contextlib.redirect_stderr(Terminal()) as made:
        yield made
    progress_bars()


def wait_with_bar(network: ClientNetwork) -> None:
    command = network.eval("__import__('time').sleep(0.3 * sockets.node)")
    command.result(60)


def test_a_wait_for_several_nodes_is_counted(network: ClientNetwork) -> None:
    threads = threading.active_count()
    with at_terminal() as terminal:
        wait_with_bar(network)
        assert "waiting" in terminal.getvalue() and "1/2" in terminal.getvalue()
        assert threading.active_count() == threads
        before = terminal.getvalue()
        network[1].eval("__import__('time').sleep(0.3)").result(60)
        assert terminal.getvalue() == before  # a single command gets no bar


@pytest.mark.parametrize("off", ["switch", "no terminal", "short", "negative"])
def test_there_is_no_bar(network: ClientNetwork, monkeypatch: pytest.MonkeyPatch, off: str) -> None:
    with at_terminal() as terminal, bars_after(-1 if off == "negative" else None):
        if off == "switch":
            progress_bars(False)
        if off == "no terminal":
            monkeypatch.setattr(terminal, "isatty", lambda: False)
        if off == "short":
            progress_bars(after=60)
        wait_with_bar(network)
    assert terminal.getvalue() == ""


def test_large_transfers_are_counted_in_bytes(network: ClientNetwork) -> None:
    array = np.zeros(6 * LARGE_BYTES // 5 // 8)
    command = network[1].eval("a = precv(sockets[0])")
    with at_terminal() as terminal:
        psend(array, network[1])
        assert "sending" in terminal.getvalue() and "/120M" in terminal.getvalue()
    command.result(60)
    with at_terminal() as terminal:
        network[1].push(a=array)
        assert "sending" in terminal.getvalue()
    network.eval("a = None").result(60)


def test_what_arrives_is_counted_in_bytes(client: Client) -> None:
    net, (far, _) = client
    far.data.post(Kind.VALUE, 0, np.zeros(6 * LARGE_BYTES // 5 // 8))
    far.event_loop.flush(far.data)  # as much of it as the system accepts
    for wait in (lambda: precv(net[1], timeout=0.5), lambda: reval("x", net).result(0.5)):
        with at_terminal() as terminal:
            with pytest.raises(TimeoutError):
                wait()
            assert "receiving" in terminal.getvalue() and "/120M" in terminal.getvalue()
    progress_bar = receiving([net[1]])
    assert progress_bar is not None
    assert 0 < progress_bar.done() < progress_bar.total == net[1].arriving_bytes[1]


def test_little_is_not_worth_a_gauge(network: ClientNetwork) -> None:
    assert sending([network[1]], LARGE_BYTES - 1) is None
    assert receiving([network[1]]) is None
    assert counting("waiting", [object()]) is None


def test_a_bar_that_cannot_be_drawn_is_logged_and_given_up(caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    def fail() -> int:
        raise ZeroDivisionError

    def ask() -> ProgressBar:
        asked.append(1)
        return ProgressBar("x", 2, " nodes", fail)

    with at_terminal():
        for _ in range(2):
            with Meter(ask) as meter:
                meter.look()
    assert "could not be drawn" in caplog.text
    assert len(asked) == 1


def test_what_engines_print_does_not_stand_in_a_bar(
    network: ClientNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with at_terminal() as terminal, contextlib.redirect_stdout(terminal):
        network.eval("__import__('time').sleep(0.5); print('said')").result(60)
    bar, first, _ = re.split(r"\[[12] 127[^]]*\] said\n", terminal.getvalue())
    assert "waiting" in bar
    # The bar was overwritten with blanks and the line starts again, unless both happened in the same step.
    assert bar.endswith(" \r")
    assert not first.strip("\r ") or first.endswith(" \r")

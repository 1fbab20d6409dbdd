"""A fault in the handling of one connection costs only that connection."""

import socket
from collections.abc import Iterator

import pytest

from pserver.daemon import callback_selector
from pserver.daemon.callback_selector import CallbackSelector, LoopPart
from tests.support.waiting import wait_until


@pytest.fixture
def selector() -> Iterator[CallbackSelector]:
    with CallbackSelector() as made:
        yield made


def test_a_connection_whose_service_fails_is_ended_and_its_owner_sees_the_end(
    selector: CallbackSelector, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = socket.socketpair()
    heard = []

    def serve() -> None:
        heard.append(ours.recv(10))
        if heard[-1]:
            raise RuntimeError("a fault")
        selector.unregister(ours)

    with ours, theirs:
        selector.register(ours, 1, serve)
        theirs.send(b"x")
        selector.call_ready(1)
        assert theirs.recv(10) == b""
        selector.call_ready(1)
        assert heard == [b"x", b""]
        assert not selector.get_map()
    assert "RuntimeError: a fault" in caplog.text
    assert "Traceback" in caplog.text


def test_one_whose_end_cannot_be_handled_is_watched_no_more(selector: CallbackSelector) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        selector.register(ours, 1, lambda: 1 / 0)
        theirs.send(b"x")
        selector.call_ready(1)
        selector.call_ready(1)
        assert not selector.get_map()


def test_a_socket_that_listens_goes_on(selector: CallbackSelector) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        selector.register(listener, 1, lambda: 1 / 0)
        for _ in range(3):
            with socket.create_connection(listener.getsockname()):
                selector.call_ready(1)
                listener.accept()[0].close()
        assert len(selector.get_map()) == 1


def test_what_one_callback_ends_is_not_called(selector: CallbackSelector) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called = []

    def serve(own: socket.socket) -> None:
        called.append(own)
        for ours, _ in pairs:
            selector.unregister(ours)

    for ours, theirs in pairs:
        selector.register(ours, 1, lambda own=ours: serve(own))
        theirs.send(b"x")
    selector.call_ready(1)
    assert len(called) == 1
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_part_that_fails_is_left_alone_for_a_moment_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(callback_selector, "_PAUSE", 0.2)
    calls = []

    def step() -> None:
        calls.append("step")
        if len(calls) == 1:
            raise RuntimeError("a fault")

    part = LoopPart("slots", step, lambda: None)
    part.step()
    part.step()
    assert calls == ["step"]
    assert 0 < (part.time_left() or 0) <= 0.2
    assert "a fault in the server (slots)" in caplog.text
    assert "RuntimeError: a fault" in caplog.text
    wait_until(lambda: part.time_left() is None, "the pause")
    part.step()
    assert calls == ["step", "step"]


def test_a_part_that_cannot_say_when_it_is_due_is_left_alone_likewise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    part = LoopPart("slots", lambda: None, lambda: 1 / 0)
    assert part.time_left() == 1.0
    assert 0 < (part.time_left() or 0) < 1.0
    assert caplog.text.count("ZeroDivisionError") == 1


def test_a_wait_that_fails_ends_nothing_and_does_not_spin(
    selector: CallbackSelector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("pserver.daemon.callback_selector.time.sleep", pauses.append)
    selector.call_ready("no number")  # type: ignore[arg-type]
    assert pauses == [1.0]
    assert "cannot wait" in caplog.text

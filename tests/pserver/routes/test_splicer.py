import contextlib
import errno
import logging
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from pconnect.routes import client_relay
from pserver.routes import splicer as module
from pserver.routes.splicer import Splicer
from tests.support.waiting import wait_until

LIMIT = 20.0


def spliced(splicer: Splicer) -> tuple[socket.socket, socket.socket]:
    near, first = socket.socketpair()
    second, far = socket.socketpair()
    for sock in (first, second):
        sock.setblocking(False)
    for sock in (near, far):
        sock.settimeout(LIMIT)
    splicer.add(first, second)
    return near, far


def test_pairs_are_relayed_until_the_end() -> None:
    splicer = Splicer()
    with contextlib.ExitStack() as stack:
        pairs = [spliced(splicer) for _ in range(3)]
        for number, (near, far) in enumerate(pairs):
            stack.enter_context(near)
            stack.enter_context(far)
            near.send(b"%d" % number)
            far.send(b"-%d" % number)
        for number, (near, far) in enumerate(pairs):
            assert far.recv(9) == b"%d" % number and near.recv(9) == b"-%d" % number
        pairs[0][0].close()
        assert pairs[0][1].recv(9) == b""
        splicer.close()
        assert pairs[1][0].recv(9) == pairs[2][1].recv(9) == b""


def test_without_any_there_is_no_thread() -> None:
    Splicer().close()


def test_a_pair_for_which_there_is_no_room_is_closed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    splicer = Splicer()
    full = OSError(errno.EMFILE, "Too many open files")
    with contextlib.ExitStack() as stack:
        near, far = (stack.enter_context(sock) for sock in spliced(splicer))
        near.send(b"before")
        assert far.recv(9) == b"before"

        def splice(_: object, *pair: socket.socket) -> None:
            for sock in pair:
                sock.close()
            raise full

        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "pserver"):
            patch.setattr(module, "splice", splice)
            for sock in spliced(splicer):
                assert stack.enter_context(sock).recv(9) == b""
            words = "cannot relay two nodes: Too many open files"
            wait_until(lambda: words in caplog.text, "the warning")
        for number in range(2):
            one, other = (stack.enter_context(sock) for sock in spliced(splicer))
            one.send(b"after")
            assert other.recv(9) == b"after"
            assert splicer.count == 2 + number
        far.send(b"still")
        assert near.recv(9) == b"still"
        near.close()
        far.close()
        wait_until(lambda: splicer.count == 2, "the end of a pair")
        splicer.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_ended_has_a_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    splicer = Splicer()

    def splice(_: object, *pair: socket.socket) -> None:
        for sock in pair:
            sock.close()
        raise SystemExit  # ends a thread silently

    with contextlib.ExitStack() as stack:
        monkeypatch.setattr(module, "splice", splice)
        for sock in spliced(splicer):
            stack.enter_context(sock)
        wait_until(lambda: not splicer._thread.is_alive(), "its end")
        monkeypatch.undo()
        near, far = (stack.enter_context(sock) for sock in spliced(splicer))
        near.send(b"forth")
        assert far.recv(9) == b"forth"
        splicer.close()


def test_what_cannot_be_duplicated_is_closed() -> None:
    made: list[Any] = []

    class Sock:
        def __init__(self, room: int) -> None:
            self.room, self.is_closed = room, False
            made.append(self)

        def dup(self) -> "Sock":
            if not self.room:
                raise OSError(errno.EMFILE, "Too many open files")
            return Sock(0)

        def close(self) -> None:
            self.is_closed = True

    with pytest.raises(OSError, match="Too many"):
        client_relay.splice(SimpleNamespace(), Sock(1), Sock(0))  # type: ignore[arg-type]
    assert [sock.is_closed for sock in made] == [True] * 3

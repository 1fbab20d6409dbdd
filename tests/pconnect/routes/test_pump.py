import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from pconnect.routes.pump import pump
from srp_tools.steps import Steps, deadline_after, receive_exactly, run_all, send_all
from tests.support.links import LIMIT

TEXT = os.urandom(3_000_000)


@pytest.fixture
def ends() -> Iterator[list[socket.socket]]:
    """Yield the ends of two connections: near, near's peer here, far's peer here, far."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(end) for _ in range(2) for end in _tcp_pair()]
        for end in made:
            end.setblocking(False)
        yield [made[0], made[1], made[2], made[3]]


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


def say(sock: socket.socket, text: bytes) -> Steps[None]:
    yield from send_all(sock, text)
    sock.shutdown(socket.SHUT_WR)


def test_what_comes_is_passed_on_both_ways(ends: list[socket.socket]) -> None:
    near, ours, theirs, far = ends
    with near.dup() as near_too, ours.dup() as ours_too, theirs.dup() as theirs_too, far.dup() as far_too:
        steps: dict[str, Steps[object]] = {
            "forth": pump(ours, theirs_too),
            "back": pump(theirs, ours_too),
            "said": say(near_too, TEXT),
            "answered": say(far_too, TEXT[::-1]),
            "heard": receive_exactly(far, len(TEXT)),
            "heard back": receive_exactly(near, len(TEXT)),
        }
        found = run_all(steps, deadline_after(LIMIT))
    assert found["forth"] == found["back"] == len(TEXT)
    assert found["heard"] == TEXT and found["heard back"] == TEXT[::-1]
    assert near.recv(1) == far.recv(1) == b""


def test_an_end_that_does_not_read_makes_the_other_wait(ends: list[socket.socket]) -> None:
    near, ours, theirs, _ = ends
    steps: dict[str, Steps[object]] = {"pump": pump(ours, theirs), "say": send_all(near, bytes(2**28))}
    found = run_all(steps, deadline_after(0.5))
    assert all(isinstance(each, TimeoutError) for each in found.values())


def test_a_broken_end_is_an_error(ends: list[socket.socket]) -> None:
    near, ours, theirs, far = ends
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    outcome = run_all({0: pump(ours, theirs), 1: say(near, TEXT)}, deadline_after(LIMIT))[0]
    assert isinstance(outcome, OSError) and not isinstance(outcome, TimeoutError)

import contextlib
import socket

from pserver.routes.splicer import Splicer

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

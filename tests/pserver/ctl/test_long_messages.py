import os
import socket
from collections.abc import Iterator

import pytest

from pserver.ctl import long_messages
from pserver.ctl.long_messages import receive_long, send_long
from tests.support.servers import open_files

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [1, 2**15, 2**15 + 1, 3_000_000])
def test_a_message_of_any_length_arrives(ends: Ends, size: int) -> None:
    files = open_files()
    data = os.urandom(size)
    send_long(ends[0], data)
    assert receive_long(ends[1]) == data
    assert open_files() == files


def test_the_end_and_a_wait_are_seen(ends: Ends) -> None:
    ends[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        receive_long(ends[1])
    ends[0].close()
    assert receive_long(ends[1]) == b""


def test_too_long_is_refused(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_messages, "_MAX_BYTES", 2**16)
    send_long(ends[0], bytes(2**16 + 1))
    with pytest.raises(OSError, match="more than 65536 bytes"):
        receive_long(ends[1])


def test_what_is_not_read_takes_a_bounded_number_of_memory_files(ends: Ends) -> None:
    ends[0].setblocking(False)
    send_long(ends[0], bytes(2**15))  # the longest short message
    sent = 0
    with pytest.raises(BlockingIOError):
        for _ in range(300):
            send_long(ends[0], bytes(2**15 + 1))
            sent += 1
    assert 1 <= sent <= 64
    for _ in range(sent + 1):
        receive_long(ends[1])
    send_long(ends[0], bytes(2**15 + 1))
    assert receive_long(ends[1]) == bytes(2**15 + 1)

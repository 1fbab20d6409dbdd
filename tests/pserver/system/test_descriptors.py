"""Descriptors from another process: all of them, or none and an error."""

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.system.descriptors import is_process, receive_descriptors, takes_messages
from tests.support.servers import open_files


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def test_what_was_sent_comes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        receive_descriptors(ours, 100, 2)
    socket.send_fds(theirs, [b"two"], [0, 1])
    data, ends = receive_descriptors(ours, 100, 2)
    assert (data, len(ends)) == (b"two", 2)
    for end in ends:
        os.close(end)
    theirs.send(b"none")
    assert receive_descriptors(ours, 100, 2) == (b"none", [])
    theirs.close()
    assert receive_descriptors(ours, 100, 2) == (b"", [])


@pytest.mark.parametrize("room", [0, 1, 2])
def test_without_room_for_all_none_is_open_and_the_next_message_comes(
    pair: tuple[socket.socket, socket.socket], room: int
) -> None:
    ours, theirs = pair
    socket.send_fds(theirs, [b"three"], [0, 1, 2])
    theirs.send(b"more")
    before = open_files()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    while not taken or taken[-1] < 200:
        taken.append(os.dup(0))
    for end in taken[-room:] if room else []:
        os.close(end)
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            receive_descriptors(ours, 100, 3)
        assert caught.value.errno == errno.EMFILE
        assert receive_descriptors(ours, 100, 3) == (b"more", [])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for end in taken[: len(taken) - room]:
            os.close(end)
    assert open_files() == before


def test_what_a_descriptor_is() -> None:
    own = os.pidfd_open(os.getpid())
    pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM)]
    with Path(os.devnull).open("rb") as file, socket.socket() as tcp, contextlib.ExitStack() as stack:
        stack.callback(os.close, own)
        messages, stream = (stack.enter_context(pair[0]).fileno() for pair in pairs)
        for pair in pairs:
            pair[1].close()
        candidates = (own, messages, stream, file.fileno(), tcp.fileno())
        assert [end for end in candidates if is_process(end)] == [own]
        assert [end for end in candidates if takes_messages(end)] == [messages]

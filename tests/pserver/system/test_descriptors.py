"""Descriptors from another process: either all arrive, or none and an error."""

import contextlib
import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.system.descriptors import (
    NoRoomError,
    Outbox,
    SpareDescriptor,
    is_process,
    receive_descriptors,
    receive_from,
    stands_for,
    takes_messages,
)
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE


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
        assert [end for end in candidates if stands_for(end, os.getpid())] == [own]
        assert not stands_for(own, 1)


def test_a_descriptor_of_a_process_that_has_ended_stands_for_it() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        descriptor = os.pidfd_open(process.pid)
        assert stands_for(descriptor, process.pid)
        assert not stands_for(descriptor, os.getpid())
        process.kill()
    assert stands_for(descriptor, process.pid)
    os.close(descriptor)


def test_the_system_names_the_process_that_has_sent_a_message(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        receive_from(ours, 100)
    theirs.send(b"before")
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    theirs.send(b"own")
    says = "import socket; socket.socket(fileno=0).send(b'other')"
    with subprocess.Popen([sys.executable, "-c", says], stdin=theirs.fileno()) as process:
        assert process.wait(DEADLINE) == 0
    before = open_files()
    socket.send_fds(theirs, [b"more"], [0, 1, 2])
    theirs.close()
    words = [receive_from(ours, 100) for _ in range(5)]
    own = os.getpid()
    assert words == [(b"before", 0), (b"own", own), (b"other", process.pid), (b"more", own), (b"", 0)]
    assert open_files() == before - 1


def test_what_nobody_takes_is_sent_later_in_its_order(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    outbox = Outbox()
    before = open_files()
    assert outbox.post(ours, b"first", [0]) is None
    assert open_files() == before
    while outbox.post(ours, b"more") is None:
        pass
    assert isinstance(outbox.post(ours, b"wish 1", [0], topic="wish"), BlockingIOError)
    assert isinstance(outbox.post(ours, b"other", [0], topic="other"), BlockingIOError)
    assert isinstance(outbox.post(ours, b"wish 2", [0], topic="wish"), BlockingIOError)
    assert (len(outbox), open_files()) == (3, before + 2)
    assert isinstance(outbox.send(ours), BlockingIOError)
    theirs.settimeout(1)
    heard: list[bytes] = []
    while b"wish 2" not in heard:
        data, ends = receive_descriptors(theirs, 100, 1)
        heard.append(data)
        for end in ends:
            os.close(end)
        outbox.send(ours)
    assert (heard[0], heard[-3:]) == (b"first", [b"more", b"other", b"wish 2"])
    assert (len(outbox), open_files()) == (0, before)
    assert isinstance(outbox.post(None, b"nobody", [0]), ConnectionError)
    assert open_files() == before + 1
    outbox.clear()
    assert open_files() == before
    with pytest.raises(OSError, match="Bad file"):
        outbox.post(None, b"wrong", [0, 10**6])
    assert (len(outbox), open_files()) == (0, before)


def test_what_came_without_its_descriptors_says_what_it_was(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    socket.send_fds(theirs, [b"too many"], [0, 1, 2])
    before = open_files()
    with pytest.raises(NoRoomError) as caught:
        receive_descriptors(ours, 100, 1)
    assert (caught.value.message, open_files()) == (b"too many", before)


def test_a_spare_descriptor_is_given_up_while_there_is_no_room() -> None:
    spare = SpareDescriptor()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = open_files()

    def look() -> bytes:
        return Path("/proc/self/comm").read_bytes()

    assert spare.use(look)
    with contextlib.ExitStack() as full:
        full.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, before[1]))
        with contextlib.suppress(OSError):
            while True:
                full.callback(os.close, os.dup(0))
        with pytest.raises(OSError, match="Too many open files"):
            look()
        assert spare.use(look)
    assert open_files() == used
    spare.close()

"""The client's connections for jobs; daemon and client are only sockets here."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import HELLO, JOB_CHANNEL, NO_LIMIT, Preamble, Purpose
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import decode_messages, encode_message
from pserver.session.job_channel import JobChannel
from pserver.session.login import AuthenticatedClient
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after
from tests.support.waiting import DEADLINE

NETWORK = bytes(range(16))
TOKEN = bytes(range(32))


class Ends:
    """A job channel, and the daemon's end of its handover socket."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.event_loop = EventLoop()
        self.daemon, handover = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours, theirs = self.socketpair()
        theirs.close()
        client = AuthenticatedClient(Channel(ours), NETWORK, 1, None, token=TOKEN)
        self.channel = JobChannel(self.event_loop, client, handover)
        self.happened: list[Any] = []
        self.channel.on_open = lambda: self.happened.append("open")
        self.channel.on_lost = lambda: self.happened.append("lost")
        self.channel.on_message = lambda message: self.happened.append(message[:3])

    def socketpair(self) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        return self._stack.enter_context(ours), self._stack.enter_context(theirs)

    def pass_on(self, endpoint: int) -> socket.socket:
        """Pass on a connection of the client; return the client's end."""
        near, far = self.socketpair()
        preamble = Preamble(Purpose.DATA, NETWORK, 0, 1, endpoint).pack()
        socket.send_fds(self.daemon, [preamble], [near.fileno()])
        near.close()
        far.settimeout(DEADLINE)
        if endpoint == JOB_CHANNEL:
            far.sendall(TOKEN)
        return far

    def open(self) -> socket.socket:
        """Open the channel as the client does; return the client's end."""
        count = self.happened.count("open")
        far = self.pass_on(JOB_CHANNEL)
        self.turn(lambda: self.happened.count("open") > count)
        assert far.recv(100) == HELLO
        return far

    def turn(self, condition: Callable[[], object]) -> None:
        self.event_loop.run_until(lambda: bool(condition()), deadline_after(DEADLINE), "the channel")


@pytest.fixture
def ends() -> Iterator[Ends]:
    with ExitStack() as stack:
        made = Ends(stack)
        stack.callback(made.daemon.close)
        stack.callback(made.event_loop.close)
        stack.callback(made.channel.close)
        yield made


def test_before_the_client_has_opened_it_nothing_is_told(ends: Ends) -> None:
    ends.channel.tell(Kind.POOL, 0, {})
    assert not ends.channel.is_open
    assert ends.channel.connection is None


def test_messages_pass_both_ways(ends: Ends) -> None:
    far = ends.open()
    assert ends.channel.is_open
    far.sendall(b"".join(encode_message(Kind.WANT, 3, None, NO_LIMIT)))
    ends.turn(lambda: len(ends.happened) > 1)
    assert ends.happened == ["open", (Kind.WANT, 3, None)]
    ends.channel.tell(Kind.YIELD, 7)
    [message] = decode_messages(Role.SCHEDULER, far.recv(1000))
    assert message[:3] == (Kind.YIELD, 7, None)


def test_a_client_that_is_gone_hears_nothing(ends: Ends) -> None:
    ends.open().close()
    ends.turn(lambda: "lost" in ends.happened)
    assert not ends.channel.is_open
    ends.channel.tell(Kind.YIELD, 7)
    assert ends.happened == ["open", "lost"]


def test_a_channel_that_is_opened_again_ends_the_one_before(ends: Ends) -> None:
    first, second = ends.open(), ends.open()
    assert ends.happened == ["open", "lost", "open"]
    assert first.recv(100) == b""
    ends.channel.tell(Kind.YIELD, 7)
    assert len(decode_messages(Role.SCHEDULER, second.recv(1000))) == 1


def test_a_client_that_has_left_is_heard_no_more_and_another_may_come(ends: Ends) -> None:
    first = ends.open()
    ends.channel.leave()
    assert first.recv(100) == b""
    assert not ends.channel.is_open
    ends.channel.leave()
    assert ends.happened == ["open", "lost"]
    ends.open()
    assert ends.channel.is_open


def test_a_connection_to_a_worker_is_handed_on(ends: Ends) -> None:
    numbers: list[int] = []

    def take(number: int, descriptor: int) -> None:
        numbers.append(number)
        os.write(descriptor, b"here")
        os.close(descriptor)

    ends.channel.on_worker_connection = take
    far = ends.pass_on(5)
    ends.turn(lambda: numbers)
    assert (numbers, far.recv(100)) == ([5], b"here")


def test_when_it_is_closed_nothing_is_told(ends: Ends) -> None:
    far = ends.open()
    ends.channel.close()
    ends.channel.tell(Kind.YIELD, 7)
    assert far.recv(100) == b""
    assert ends.happened == ["open"]


def test_the_client_hears_why_the_session_ends(ends: Ends) -> None:
    far = ends.open()
    ends.channel.close("the server was stopped")
    [message] = decode_messages(Role.SCHEDULER, far.recv(1000))
    assert (message.kind, message.value) == (Kind.STOPPING, "the server was stopped")


def test_without_a_daemon_the_channel_lives_on(ends: Ends) -> None:
    far = ends.open()
    ends.daemon.close()
    ends.event_loop.poll(0.1)
    ends.channel.tell(Kind.YIELD, 7)
    assert far.recv(1000)

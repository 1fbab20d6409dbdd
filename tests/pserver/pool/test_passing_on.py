import contextlib
import json
import os
import socket
from collections.abc import Iterator

import pytest

from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind, Role
from pserver.pool.passing_on import ask_daemon
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after
from tests.support.waiting import DEADLINE

TOLD = {"id": "00" * 16, "members": []}


class Daemon:
    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    def ask_members(self, end: socket.socket) -> None:
        if self.answer is not None:
            file = os.memfd_create("told")
            os.write(file, self.answer)
            socket.send_fds(end, [b"members"], [file])
            os.close(file)


@pytest.fixture
def ends() -> Iterator[tuple[EventLoop, Connection, list[object]]]:
    """Yield a loop, the supervisor's end of a command channel in it, and the messages that reach the client's end."""
    with contextlib.closing(EventLoop()) as loop:
        near, far = socket.socketpair()
        for end in (near, far):
            end.setblocking(False)
        command = Connection(1, "client", Channel(near), role=Role.SUPERVISOR)
        client = Connection(1, "server", Channel(far), role=Role.CLIENT)
        heard: list[object] = []
        client.on_message = lambda message: heard.append((message.kind, message.tag, message.value))
        loop.add(command)
        loop.add(client)
        yield loop, command, heard


@pytest.mark.parametrize(
    ("answer", "told"),
    [(json.dumps(TOLD).encode(), TOLD), (b"", {"id": "", "members": []}), (None, {"id": "", "members": []})],
)
def test_the_client_gets_what_the_daemon_says_or_nothing(
    ends: tuple[EventLoop, Connection, list[object]], answer: bytes | None, told: object
) -> None:
    loop, command, heard = ends
    ask_daemon(7, command, Daemon(answer), loop)
    loop.run_until(lambda: bool(heard), deadline_after(DEADLINE), "the answer")
    assert heard == [(Kind.NEIGHBOURS, 7, told)]

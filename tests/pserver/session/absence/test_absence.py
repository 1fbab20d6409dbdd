"""A supervisor without its client, in the test's own loop: when it ends or waits, and which client it accepts."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pconnect.errors import ConnectionLostError
from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from pserver.engine.command_page import CommandPage, make_memory
from pserver.orphans.orphan import Orphan
from pserver.orphans.returning_client import Return, ReturningClient
from pserver.session.absence.absence import Absence
from pserver.session.lifecycle import EngineState, SupervisorLifecycle, SupervisorState
from pserver.session.login import AuthenticatedClient
from pserver.session.slot_client import SlotClient
from srp_tools.certificates import NetworkAuthority, NodeKey
from srp_tools.tls import TlsContexts
from tests.support.links import channels

NETWORK = bytes(range(16))
KEY = NodeKey()


def certificates() -> tuple[bytes, bytes]:
    authority = NetworkAuthority(NETWORK)
    return authority.sign(KEY.public_bytes(), 1), authority.certificate


class Place:
    """The parts of a supervisor, and the far ends of its connections."""

    def __init__(self, stack: ExitStack, timeout: float = 60.0) -> None:
        self._stack = stack
        near, far = channels()
        self.event_loop = EventLoop()
        stack.callback(self.event_loop.close)
        self.command = Connection(1, "client", near, role=Role.SUPERVISOR)
        self.event_loop.add(self.command)
        self.client = Connection(1, "server", far, role=Role.CLIENT)
        self.waits: list[bool] = []  # the results of `lose_client`
        stack.callback(self.client.close)
        tls = TlsContexts(KEY.identity(NETWORK, 1, *certificates()))
        self.tls = tls
        user = AuthenticatedClient(near, NETWORK, 1, tls)
        self.life = SupervisorLifecycle()
        control, self.daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.enter_context(self.daemon)
        slot_client = SlotClient(control)
        stack.callback(slot_client.close)
        self.orphan = Orphan(timeout)
        self.orphan.set_up({"resumable": True})
        self.orphan.note(Message(Kind.MESHED, 0, {"pid": 7}), is_orphaned=False)
        self.absence = Absence(user, self.command, self.life, self.event_loop, slot_client, self.orphan)
        self.command.on_lost = lambda error: self.waits.append(self.absence.lose_client(error, [5, 6]))
        pipe, its_pipe = channels()
        self.engine = Connection(1, "engine", pipe, role=Role.OVERSEER)
        self.its_engine = Connection(0, "supervisor", its_pipe, role=Role.ENGINE)
        self.event_loop.add(self.engine)
        memory = make_memory()
        self.page = CommandPage(memory)
        os.close(memory)
        stack.callback(self.page.close)
        stack.callback(self.its_engine.close)

    def vanish(self) -> None:
        self.client.close()
        self.event_loop.poll(1.0)

    def come(self, *, takes_over: bool = False, back: tuple[bytes, bytes] | None = None) -> list[Message]:
        """Come back; return the messages to the new client."""
        near, far = channels()
        made = Return(1, *(back or certificates()), takes_over)
        self.absence.receive(ReturningClient(near, made), self.engine, self.page, EngineState.READY)
        client = Connection(1, "server", far, role=Role.CLIENT)
        self._stack.callback(client.close)
        return heard(client)

    def told(self) -> list[bytes]:
        self.daemon.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.daemon.recv(1000))
        except BlockingIOError:
            return found


def heard(connection: Connection) -> list[Message]:
    messages: list[Message] = []
    connection.on_message = messages.append
    while connection.error is None and connection.fill(to_the_end=True):
        pass
    return messages


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def brief(messages: list[Message]) -> list[tuple[Kind, Any]]:
    return [(message.kind, message.value) for message in messages]


def test_what_is_for_the_client_waits_for_the_one_who_comes_back(stack: ExitStack) -> None:
    place = Place(stack)
    place.vanish()
    assert place.life.state.name == "ORPHANED"
    assert place.waits == [True]
    place.command.post(Kind.OUTPUT, 1, [3, b"printed meanwhile", 0])
    place.orphan.note(Message(Kind.FRONT_END, 0, []), is_orphaned=True)
    authority = certificates()
    assert brief(place.come(back=authority)) == [
        (Kind.BACK, [5, 6, 0]),
        (Kind.OUTPUT, [3, b"printed meanwhile", 0]),
        (Kind.MESHED, {"pid": 7, "orphan_seconds": 60.0, "running": 0, "begun": 0}),
    ]
    assert brief(heard(place.its_engine)) == [(Kind.BACK, list(authority))]
    assert place.tls.identity.authority == authority[1]
    assert place.life.state is SupervisorState.OPEN
    said = place.told()
    assert said[0].startswith(b'{"orphaned": 1')
    assert said[1] == b'{"orphaned": null}'


def test_a_client_that_is_there_is_not_disturbed(stack: ExitStack) -> None:
    place = Place(stack)
    before = place.tls.identity
    [(kind, why)] = brief(place.come())
    assert (kind, why[:33]) == (Kind.BACK, "another client has this session: ")
    assert (place.life.state, place.tls.identity) == (SupervisorState.OPEN, before)
    assert brief(heard(place.its_engine)) == []
    assert place.client.error is None


def test_it_hears_who_has_taken_over(stack: ExitStack) -> None:
    place = Place(stack)
    [*_, (last, _)] = brief(place.come(takes_over=True))
    assert last is Kind.MESHED
    assert brief(heard(place.client)) == [(Kind.STOPPING, "another client has taken over the session")]
    assert place.client.error is not None
    assert place.life.state is SupervisorState.OPEN


def test_a_certificate_for_another_key_changes_nothing(stack: ExitStack) -> None:
    place = Place(stack)
    place.vanish()
    authority = NetworkAuthority(NETWORK)
    wrong = authority.sign(NodeKey().public_bytes(), 1), authority.certificate
    [(kind, why)] = brief(place.come(back=wrong))
    assert (kind, why[:35]) == (Kind.BACK, "not a certificate for the key of th")
    assert place.life.state is SupervisorState.ORPHANED
    [*_, (last, _)] = brief(place.come())
    assert last is Kind.MESHED


def test_without_an_absence_there_is_nothing_to_come_back_to(stack: ExitStack) -> None:
    place = Place(stack)
    place.orphan.set_up({})  # the client has not asked for it
    assert brief(place.come(takes_over=True)) == [(Kind.BACK, "")]
    place.vanish()
    assert place.waits == [False]
    assert place.life.state is SupervisorState.ENDED
    assert brief(place.come()) == [(Kind.BACK, "")]


def test_it_ends_when_nobody_has_come_in_time(stack: ExitStack) -> None:
    place = Place(stack, timeout=0.001)
    place.absence.look()  # the client is connected
    place.vanish()
    while place.orphan.time_left():
        pass
    place.absence.look()
    assert (place.life.state, place.life.reason) == (SupervisorState.ENDED, place.orphan.expiry)


def test_a_loss_in_another_state_is_as_ever(stack: ExitStack) -> None:
    place = Place(stack)
    place.life.state = SupervisorState.DETACHED
    place.absence.lose_client(ConnectionLostError("gone"), [0, 0])
    assert place.life.state is SupervisorState.DETACHED

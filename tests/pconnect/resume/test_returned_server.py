"""Messages of a server to a client that has come back, without a server."""

from collections.abc import Iterator
from typing import Any

import pytest

from pconnect.errors import ConnectionLostError, ProtocolError
from pconnect.link.connection import LIBRARY_TAGS, Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import DEFAULT_LIMITS
from pconnect.protocol.kinds import Kind, Role
from pconnect.resume.returned_server import ReturnedServer
from pconnect.routes.location import Location
from pconnect.session.client_mesh import ClientMesh
from srp_tools.steps import deadline_after
from tests.support.links import LIMIT, channels

FAILURE = {
    "type": "ValueError", "bases": ["ValueError"], "message": "no", "traceback": "…", "values_sent": 0, "seconds": 0.5
}  # fmt: skip


class Place:
    """A `ReturnedServer`, and the far ends of its connections."""

    def __init__(self) -> None:
        self.event_loop = EventLoop()
        near, far = channels()
        command = Connection(1, "host", near, role=Role.CLIENT)
        self.server = ReturnedServer(self.event_loop, DEFAULT_LIMITS, command, Location("host", 1, 2))
        self.event_loop.add(command)
        self.supervisor = Connection(0, "client", far, role=Role.SUPERVISOR)
        self.mesh = ClientMesh(bytes(16), [self.server], self.event_loop, DEFAULT_LIMITS)
        near, far = channels()
        self.server.data.open(near)
        self.event_loop.add(self.server.data)
        self.engine = Connection(0, "client", far, role=Role.ENGINE_DATA)

    def say(self, connection: Connection, *messages: tuple[Kind, int, Any]) -> None:
        for kind, tag, value in messages:
            connection.post(kind, tag, value)
        connection.flush()
        for _ in range(2):
            self.event_loop.poll(0.05)

    def close(self) -> None:
        self.event_loop.close()
        self.supervisor.close()
        self.engine.close()


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


def meshed(**facts: int) -> tuple[Kind, int, Any]:
    return Kind.MESHED, 0, {"pid": 7, "begun": 9, "running": 0, **facts}


def test_the_answer_tells_whether_the_client_can_resume(place: Place) -> None:
    assert not place.server.is_settled
    place.say(place.supervisor, (Kind.BACK, 0, [0, 0, 0]))
    assert not place.server.is_settled
    place.say(place.supervisor, meshed())
    assert place.server.is_settled
    assert (place.server.refusal, place.server.state) == (None, "open")


@pytest.mark.parametrize("why", ["", "another client is there"])
def test_a_refusal_is_kept(place: Place, why: str) -> None:
    place.say(place.supervisor, (Kind.BACK, 0, why))
    assert (place.server.is_settled, place.server.refusal) == (True, why)


def test_a_loss_settles_the_question(place: Place) -> None:
    place.supervisor.close()
    place.event_loop.poll(0.5)
    assert place.server.is_settled
    assert place.server.command.error is not None


def test_commands_are_reported_with_their_outcomes(place: Place) -> None:
    place.say(place.supervisor, (Kind.BACK, 0, [0, 0, 0]), meshed(running=4))
    [running] = place.mesh.found_commands
    assert (running.number, running.source[:10]) == (4, "(unknown w")
    place.say(
        place.engine,
        (Kind.KNOWN, 2, ["a", True]),
        (Kind.VALUE, LIBRARY_TAGS + 2, [False, 7]),
        (Kind.DONE, 2, [0.5, 0, 0, 0]),
        (Kind.KNOWN, 3, ["fail()", True]),
        (Kind.DONE, 3, [FAILURE, 0, 0, 0]),
        (Kind.KNOWN, 4, ["work()", False]),
        (Kind.KNOWN, 0, 2),
    )
    assert place.server.has_told
    assert place.server.commands.values_lost == 2
    value, failed, running = place.mesh.found_commands
    assert (value.result(LIMIT), value.source) == (7, "a")
    assert isinstance(failed.exception(LIMIT), ValueError)
    assert (running.source, running.has_ended) == ("work()", False)
    place.server.check()  # no error disturbs the next call
    assert place.server.failures.unseen() == []
    place.say(place.engine, (Kind.DONE, 4, [0.5, 0, 0, 0]))
    assert running.result(LIMIT) is None


def test_output_continues_for_the_previous_clients_command(place: Place) -> None:
    place.server.last_before = 10
    place.say(
        place.supervisor,
        (Kind.BACK, 0, [100, 0, 3]),
        (Kind.OUTPUT, 1, [5, b"printed\n", 0]),
        (Kind.OUTPUT, 1, [0, b"by a thread\n", 0]),
        (Kind.OUTPUT, 1, [11, b"by one of ours\n", 0]),
        meshed(),
    )
    [command] = place.mesh.found_commands
    assert (command.number, command.stdout) == (5, "printed\n")
    place.say(place.engine, (Kind.KNOWN, 5, ["x", False]), (Kind.DONE, 5, [0.5, 108, 0, 3]))
    assert command.result(LIMIT) is None


def test_forgotten_commands_have_ended(place: Place) -> None:
    place.say(place.supervisor, (Kind.BACK, 0, [0, 0, 0]), (Kind.OUTPUT, 1, [5, b"x\n", 0]), meshed())
    place.say(place.engine, (Kind.KNOWN, 0, 0))
    [command] = place.mesh.found_commands
    with pytest.raises(ConnectionLostError, match="does not remember this command"):
        command.result(LIMIT)


def test_a_malformed_message_ends_the_connection(place: Place) -> None:
    place.engine.post(Kind.KNOWN, 3, ["a"])
    place.engine.flush()
    place.event_loop.run_until(
        lambda: place.server.data.error is not None, deadline_after(LIMIT), "the refusal"
    )
    assert isinstance(place.server.data.error, ProtocolError)
    place.supervisor.post(Kind.BACK, 0, [1, 2])
    place.supervisor.flush()
    place.event_loop.run_until(
        lambda: place.server.command.error is not None, deadline_after(LIMIT), "the refusal"
    )


def test_an_engine_that_has_died_ends_its_commands(place: Place) -> None:
    death = {"how": "SIGKILL", "last_output": "", "command": 4}
    place.say(
        place.supervisor,
        (Kind.BACK, 0, [0, 0, 0]),
        (Kind.OUTPUT, 1, [4, b"x\n", 0]),
        meshed(),
        (Kind.DIED, 0, death),
    )
    assert place.server.is_settled
    [command] = place.mesh.found_commands
    with pytest.raises(ConnectionLostError, match="SIGKILL"):
        command.result(LIMIT)

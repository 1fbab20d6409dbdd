"""Sessions that only run jobs; for the jobs see test_healing and tests/pconnect/resume/test_same_client.py."""

import time

import pytest

from pconnect.errors import ConnectionLostError
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pconnect.scheduler.job_session import JobSession, begin_session
from pconnect.session.remote_calls import client_mesh
from srp_tools.steps import Steps
from tests.support.links import FakeServer
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


def run_in(loop: EventLoop, steps: Steps[JobSession]) -> JobSession | Exception:
    outcomes: list[JobSession | Exception] = []
    loop.background.start(steps, time.monotonic() + DEADLINE, outcomes.append)
    loop.run_until(lambda: bool(outcomes), time.monotonic() + DEADLINE, "a session")
    return outcomes[0]


def test_the_engine_is_connected_only_to_the_client(server: Server) -> None:
    loop = EventLoop()
    with server.connect(2) as net:
        mesh = client_mesh(net.mesh)
        table = net.broadcast([1, 2])
        taken = run_in(loop, begin_session(mesh, loop, 1, DEADLINE))
        assert isinstance(taken, ConnectionLostError)  # a session with this number exists
        mesh.event_loop.discard(mesh.servers[1].command)
        mesh.event_loop.discard(mesh.servers[2].command)
        found: object = taken
        deadline = time.monotonic() + DEADLINE
        while not isinstance(found, JobSession):
            assert time.monotonic() < deadline
            found = run_in(loop, begin_session(mesh, loop, 1, DEADLINE))
        assert (found.state, found.has_waited, found.refusal) == ("open", False, None)
        assert table.key in mesh.jobs.broadcasts
        loop.close()


def test_the_first_answer_to_a_client_that_resumes() -> None:
    far = FakeServer(1)
    session = JobSession(far.server.command, far.server.location)
    loop = EventLoop()
    loop.add(session.command)
    far.say(Kind.BACK, "")
    loop.run_until(lambda: session.refusal is not None, time.monotonic() + DEADLINE, "a word")
    assert (session.refusal, session.has_waited) == ("", False)
    far.say(Kind.BACK, [0, 0, 0])
    loop.run_until(lambda: session.has_waited, time.monotonic() + DEADLINE, "a word")
    far.say(Kind.BACK, 5)
    with pytest.raises(TimeoutError):
        loop.run_until(lambda: False, time.monotonic() + 0.05, "nothing")
    assert session.command.error is not None
    far.server.data.close()
    loop.close()
    far.event_loop.close()

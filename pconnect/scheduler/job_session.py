"""Sessions that only run jobs, served by the scheduler's loop: new sessions, and sessions that have waited."""

import time
from dataclasses import replace
from typing import Any

from pconnect.commands.function_pickling import pack_arguments
from pconnect.errors import ConnectionLostError
from pconnect.link.connection import LIBRARY_TAGS, Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.answer_forms import check_answer
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, encode_message
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.login import Back, log_in_at
from pconnect.session.mesh_setup import mesh_error
from pconnect.session.node_state import NodeState
from pconnect.session.server import Server
from srp_tools.steps import Steps, pause

_LOOK_SECONDS = 0.02  # between checks for messages


class JobSession(Server):
    """A session that only runs jobs; the scheduler's loop serves its command channel."""

    refusal: str | None = None  #: why the client cannot resume the session; empty if no session was found
    has_waited = False  #: whether the session existed before and has waited for the client

    def _take(self, message: Message) -> None:
        if message.kind is not Kind.BACK:
            super()._take(message)
            return
        check_answer(message.kind, message.value)
        if isinstance(message.value, str):
            self.refusal = message.value
        else:
            self.has_waited = True
            self.output.go_on_from(message.value)


def come_back_to(mesh: ClientMesh, event_loop: EventLoop, number: int) -> Steps[JobSession]:
    """Resume the session of a node, if it has waited; its engine is unchanged."""
    setup = mesh.mesh_setup
    assert setup is not None  # noqa: S101 - the caller has checked it
    assert setup.terms is not None  # noqa: S101 - the caller has checked it
    assert setup.authority is not None  # noqa: S101 - the client has logged in
    key = setup.authority.public_keys[number]
    terms = replace(setup.terms, back=Back({number: key}, takes_over=True), make_server=JobSession)
    server: Any = None
    try:
        server = yield from log_in_at(mesh.growth.hosts[number], number, terms)
        server.output.console = mesh.console
        event_loop.add(server.command)
        while server.refusal is None and server.life.state is NodeState.JOINING:
            if server.command.error is not None:
                raise server.command.error
            yield from pause(_LOOK_SECONDS)
    except BaseException:
        setup.authority.sign(key, number)  # the failed login may have left another key there
        if server is not None:
            event_loop.discard(server.command)
        raise
    if server.refusal is not None:
        setup.authority.sign(key, number)
    return server  # type: ignore[no-any-return]


def begin_session(mesh: ClientMesh, event_loop: EventLoop, number: int, seconds: float) -> Steps[JobSession]:
    """Log in again, and start an engine that is connected only to the client."""
    setup = mesh.mesh_setup
    assert setup is not None  # noqa: S101 - the caller has checked it
    assert setup.terms is not None  # noqa: S101 - the caller has checked it
    terms = replace(setup.terms, make_server=JobSession)
    server: Any = yield from log_in_at(mesh.growth.hosts[number], number, terms)
    try:
        server.output.console = mesh.console
        server.attach(
            Connection(number, server.host, None, role=Role.CLIENT_DATA, limits=setup.limits, awaited=True)
        )
        event_loop.add(server.command)
        others = {c.node: c.host for c in list(mesh.connections)[1:] if c.node != number}
        told = setup.setup([server], time.monotonic() + seconds, others)
        told |= {"together": [number], "links": {}, "resumable": False}
        server.command.post(Kind.SETUP, number, told)
        event_loop.flush(server.command)
        server.data.open((yield from setup.dial(server)))
        event_loop.add(server.data)
        while server.life.state is NodeState.JOINING and server.command.error is None:
            yield from pause(_LOOK_SECONDS)
        if (error := mesh_error(server)) is not None:
            raise error
        yield from _send_values(mesh, event_loop, server)
    except BaseException:
        event_loop.discard(server.data)
        event_loop.discard(server.command)
        raise
    return server  # type: ignore[no-any-return]


def _send_values(mesh: ClientMesh, event_loop: EventLoop, server: Server) -> Steps[None]:
    """Send the values of `net.broadcast` that the node had, and wait until the engine has them."""
    ended: dict[int, Any] = {}
    server.data.on_message = lambda message: _note_end(message, ended)
    values = list(mesh.jobs.broadcasts.items())
    for command, (key, (value, nodes)) in enumerate(values, 1):
        if nodes is not None and server.node not in nodes:
            continue
        limit = mesh.limits.max_message_bytes
        contents = pack_arguments([key, value], pickled=False)
        server.data.post(Kind.CALL, command, ["broadcast.keep", 0, {}])
        server.data.post_encoded(
            encode_message(Kind.VALUE, LIBRARY_TAGS + command, contents, limit, by_name=False)
        )
        event_loop.flush(server.data)
        while command not in ended:
            if server.data.error is not None or server.life.death is not None:
                raise ConnectionLostError(
                    f"the node was lost again: {server.life.death or server.data.error}"
                )
            yield from pause(_LOOK_SECONDS)
        if isinstance(ended[command], dict):
            raise ConnectionLostError(f"its engine could not keep a broadcast value: {ended[command]}")


def _note_end(message: Message, ended: dict[int, Any]) -> None:
    if message.kind is Kind.DONE:
        ended[message.tag] = message.value[0]

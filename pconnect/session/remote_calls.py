"""Sending commands: source text, expressions, functions with their arguments, and service calls."""

import functools
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pconnect.commands.command import Command
from pconnect.commands.command_list import Commands
from pconnect.commands.function_pickling import describe, pack_arguments, pack_call, unpack_value
from pconnect.commands.remote_repr import RemoteRepr
from pconnect.errors import ConfigurationError, UnreadableValueError, UnsupportedValueError
from pconnect.link.connection import LIBRARY_TAGS, Connection
from pconnect.loop.interrupts import interrupting
from pconnect.loop.network import Mesh
from pconnect.loop.progress_bars import Meter, sending
from pconnect.messaging.send_receive import Connections, resolve
from pconnect.protocol.forms import MAX_SECONDS
from pconnect.protocol.frames import with_tag
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import encode_message
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.server import Server

# If a busy engine does not read its arguments, they are copied so that the caller need not wait: after this many
# seconds without progress.
_STANDSTILL = 0.05


def run(
    source: str,
    connections: Connections,
    *,
    wants_value: bool = False,
    as_display: bool = False,
    allow_pickle: bool = False,
    time_limit: float | None = None,
) -> Any:
    """Send source text; return a `Command` for a single connection, otherwise `Commands`.

    With `as_display` the result is the display of the last expression, a `RemoteRepr`, instead of its value.
    """
    mesh, nodes = _servers(connections)
    source = check_source(source)
    commands = mesh.new_commands(source, nodes)
    options = _options(commands, wants_value=wants_value, allow_pickle=allow_pickle, time_limit=time_limit)
    if as_display:
        options |= {"value": True, "display": True}
        for command in commands:
            command.expect_value(lambda arrived: RemoteRepr.read(unpack_value(arrived, allow_pickle=False)))
    with mesh.event_loop.sigint_deferred:
        mesh.renumber(commands)
        mesh.post(commands, options)
        for command in commands:
            mesh.event_loop.flush(mesh.servers[command.node].data)
    return _as_asked(commands, connections)


def check_source(source: object) -> str:
    """Return the text of a command without common indentation. Raises `ConfigurationError` if it is not a string."""
    if not isinstance(source, str):
        raise ConfigurationError(f"a command must be a string of source text, not {type(source).__name__}")
    return textwrap.dedent(source) if "\n" in source or source[:1].isspace() else source


def call(
    function: Callable[..., Any] | str,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    connections: Connections,
    *,
    wants_value: bool = True,
    allow_pickle: bool = False,
    time_limit: float | None = None,
) -> Any:
    """Call a function on engines; return a `Command` for a single connection, otherwise `Commands`.

    The function and its arguments are encoded once, and are read before this returns. Errors and lists of commands name
    the function.

    Raises `ConfigurationError` or `MessageTooLargeError` if they cannot be sent. Nothing was sent.
    """
    mesh, nodes = _servers(connections)
    commands = mesh.new_commands(describe(function), nodes)
    options = _options(commands, wants_value=wants_value, allow_pickle=allow_pickle, time_limit=time_limit)
    contents = functools.partial(pack_call, function, args, kwargs, foreign=mesh.foreign_among(nodes))
    _send_call(mesh, commands, options | {"call": True}, contents)
    return _as_asked(commands, connections)


def call_service(
    name: str,
    args: Sequence[object],
    connections: Connections,
    *,
    wants_value: bool = True,
    shown_as: str = "",
) -> Any:
    """Call a service of engines; return a `Command` for a single connection, otherwise `Commands`.

    The arguments are sent like those of `call`. A service does not look up names in the workspace; otherwise it
    is a command like any other.

    `name`: of the service; doc/protocol.md lists the services with their arguments and results. `args`, `connections`,
    `wants_value`: as in `call`. `shown_as`: its source in errors and lists of commands. Raises
    `ConfigurationError` or `MessageTooLargeError` if the arguments cannot be sent. Nothing was sent.
    """
    mesh, nodes = _servers(connections)
    commands = mesh.new_commands(shown_as or describe(name), nodes)
    options = _options(commands, wants_value=wants_value, allow_pickle=False, time_limit=None)
    contents = functools.partial(pack_arguments, args, foreign=mesh.foreign_among(nodes))
    _send_call(mesh, commands, options, contents, name)
    return _as_asked(commands, connections)


def kept_value(
    connection: Connection, kind: str, number: int, error: Exception, timeout: float | None
) -> Any:
    """Return the result of a job or command that a node keeps because only pickle can send it.

    Raises `error` if the node has none. Raises `UnreadableValueError` if the result cannot be unpickled here.
    """
    data = call_service("results.kept", [kind, number], connection).result(timeout)
    if data is None:
        raise error
    try:
        return unpack_value([True, data], allow_pickle=True)
    except Exception as problem:
        text = f"the result of the {kind} arrived, but cannot be unpickled here: {type(problem).__name__}: {problem}"
        raise UnreadableValueError(text) from problem


def kept_value_of(command: Command, error: Exception, timeout: float | None) -> Any:
    """Return the result of a command that its node keeps; see `kept_value`."""
    assert isinstance(command.peer, Server)  # noqa: S101 - no other peers have commands on the client
    return kept_value(command.peer.data, "command", command.number, error, timeout)


def mesh_of(view: Any) -> ClientMesh:
    """Return the client's mesh of a network, or of a part of one; raise in an engine."""
    return client_mesh(resolve(view)[0])


def client_mesh(mesh: Mesh) -> ClientMesh:
    """Return the client's mesh, or raise in an engine."""
    if not isinstance(mesh, ClientMesh):
        raise ConfigurationError("only the client of a network can do this; an engine cannot send commands")
    return mesh


def _servers(connections: Connections) -> tuple[ClientMesh, list[int]]:
    mesh, targets = resolve(connections)
    mesh.check_open()
    return client_mesh(mesh), [target.node for target in targets]


def _as_asked(commands: Sequence[Command], connections: Connections) -> Command | Commands:
    if isinstance(connections, Connection):
        return commands[0]
    return Commands(commands[0].source, commands)


def _options(
    commands: Sequence[Command], *, wants_value: bool, allow_pickle: bool, time_limit: float | None
) -> dict[str, Any]:
    if time_limit is not None and not time_limit > 0:
        raise ConfigurationError(f"time_limit={time_limit}: it must be a positive number of seconds")
    options: dict[str, Any] = {}
    if wants_value:
        options["value"] = True
        for command in commands:
            command.expect_value(
                lambda arrived: unpack_value(arrived, allow_pickle=allow_pickle), kept_value_of
            )
    if allow_pickle:
        options["pickle"] = True
    if time_limit is not None and time_limit <= MAX_SECONDS:
        options["seconds"] = float(time_limit)
    return options


def _send_call(
    mesh: ClientMesh,
    commands: Sequence[Command],
    options: dict[str, Any],
    pack: Callable[..., list[Any]],
    service: str = "",
) -> None:
    """Send commands, then the result of `pack`: with the arguments as values if possible, otherwise pickled."""
    tag, limit = LIBRARY_TAGS + commands[0].number, mesh.limits.max_message_bytes
    try:
        # If pickled, a class that the engine would have to find by name is imported there, or sent along.
        buffers = encode_message(Kind.VALUE, tag, pack(pickled=False), limit, by_name=False)
    except UnsupportedValueError:
        buffers = encode_message(Kind.VALUE, tag, pack(pickled=True), limit)
    # Ctrl-C must not come in between: an engine that has the command waits for its arguments. Both are sent together.
    with interrupting([mesh.servers[command.node] for command in commands]), mesh.event_loop.sigint_deferred:
        if mesh.renumber(commands):
            buffers[0] = with_tag(bytes(buffers[0]), LIBRARY_TAGS + commands[0].number)
        mesh.post(commands, options, service)
        _send_arguments(
            mesh, [mesh.servers[command.node].data for command in commands if command.begun], buffers
        )


def _send_arguments(
    mesh: ClientMesh, connections: Sequence[Connection], buffers: list[bytes | memoryview]
) -> None:
    """Send to several engines without waiting for those that read nothing because they are busy."""
    total = len(connections) * sum(map(len, buffers))

    def unsent() -> int:
        return sum(connection.unsent_bytes for connection in connections)

    def wait(is_sent: Callable[[], bool]) -> None:
        left, moved = unsent(), time.monotonic()
        with Meter(lambda: sending(connections, total)) as meter:
            while not is_sent() and time.monotonic() - moved < _STANDSTILL:
                meter.look()
                mesh.event_loop.poll(_STANDSTILL)
                before, left = left, unsent()
                if left < before:
                    moved = time.monotonic()

    mesh.event_loop.send_all(connections, buffers, wait)

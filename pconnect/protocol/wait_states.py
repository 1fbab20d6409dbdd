"""The state of a waiting node, for deadlock detection, and its form on the wire. Sans-I/O."""

from typing import NamedTuple

from pconnect.errors import ProtocolError
from pconnect.protocol.kinds import Kind

#: The wait of an engine that is not running a command. Only the client can end it.
IDLE = "idle"
#: The wait of the client for the end of commands.
COMMAND_END = "the end of a command"
CLIENT = 0
#: The kinds of messages that `pconnect.link.connection.Connection.values_sent` does not count: they do not change the
#: state of the receiving node, so facts about it remain true. Any other message may end a wait or start something.
UNCOUNTED_KINDS = (Kind.PROBE, Kind.TAKEN, Kind.NEIGHBOURS, Kind.STATISTICS)


class Wait(NamedTuple):
    """The wait of a node."""

    kind: str  #: the waiting call, or `IDLE`, or `COMMAND_END`
    nodes: tuple[int, ...]  #: the nodes whose messages can end the wait
    awaited: tuple[int, ...] | None = None  #: the nodes to name in messages; ``None``: the same nodes
    tag: int = 0  #: the tag of the awaited value
    #: Whether messages from all these nodes are needed; otherwise one message from any of them may end the wait.
    every: bool = False
    has_limit: bool = False  #: whether a deadline can end the wait as well


class State(NamedTuple):
    """A node's report about itself."""

    command: int  #: number of the command that it is running; 0 if there is none
    serial: int  #: changes with each start and end of a wait
    wait: Wait | None  #: ``None`` if it can continue without a message from another node
    #: Numbers of messages, by node; -1 if there is no connection.
    sent: tuple[int, ...]
    received: tuple[int, ...]
    listens: tuple[int, ...] = ()  #: nodes whose messages may make it act without ending its wait


def pack_state(state: State) -> list[object]:
    """Return the wire form of a state."""
    wait = state.wait
    packed = wait and [
        wait.kind,
        list(wait.nodes),
        None if wait.awaited is None else list(wait.awaited),
        wait.tag,
    ]
    return [state.command, state.serial, packed, list(state.sent), list(state.received)]


def read_state(value: object) -> State:
    """Decode a state. Raises `ProtocolError` if it is malformed."""
    match value:
        case [int() as command, int() as serial, packed, list() as sent, list() as received] if (
            _are_numbers(sent) and _are_numbers(received) and len(sent) == len(received)
        ):
            wait = None if packed is None else _read_wait(packed, len(sent))
            return State(command, serial, wait, tuple(sent), tuple(received))
    raise ProtocolError("a malformed STATE")


def _read_wait(value: object, size: int) -> Wait:
    match value:
        case [str() as kind, list() as nodes, None | list() as awaited, int() as tag] if (
            nodes and _are_numbers([*nodes, *(awaited or ())], size)
        ):
            return Wait(kind, tuple(nodes), None if awaited is None else tuple(awaited), tag)
    raise ProtocolError("a malformed STATE")


def _are_numbers(values: list[object], size: int | None = None) -> bool:
    return all(type(value) is int and (size is None or 0 <= value < size) for value in values)

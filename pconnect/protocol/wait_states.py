"""What a node waits for and how far it has come, and the form in which that crosses the wire. No I/O."""

from typing import NamedTuple

from pconnect.errors import ProtocolError
from pconnect.protocol.kinds import Kind

#: The wait of an engine that runs no command; only the client can end it.
IDLE = "idle"
#: The wait of the client for the end of commands.
COMMAND_END = "the end of a command"
CLIENT = 0
#: The kinds of messages that `pconnect.link.connection.Connection.values_sent` leaves out: the node that takes one is
#: afterwards as it was, so that what is known of it still holds. Any other message may end a wait or begin something.
UNCOUNTED_KINDS = (Kind.PROBE, Kind.TAKEN, Kind.NEIGHBOURS, Kind.STATISTICS)


class Wait(NamedTuple):
    """What a node waits for."""

    kind: str  #: the call that waits, or `IDLE`, or `COMMAND_END`
    nodes: tuple[int, ...]  #: whose messages can end it
    awaited: tuple[int, ...] | None = None  #: whom the user is told; ``None``: the same
    tag: int = 0  #: of the value that is waited for
    #: Whether messages of all these nodes are needed; otherwise one of any of them may end it.
    every: bool = False
    has_limit: bool = False  #: whether a deadline can end it, too


class State(NamedTuple):
    """What a node tells of itself."""

    command: int  #: number of the command that it runs; 0 if it runs none
    serial: int  #: another after each beginning and each end of a wait
    wait: Wait | None  #: ``None`` if it can go on without a message of another node
    #: Numbers of messages, by node; -1 where there is no connection.
    sent: tuple[int, ...]
    received: tuple[int, ...]
    listens: tuple[int, ...] = ()  #: nodes whose messages may have it do something without ending its wait


def pack_state(state: State) -> list[object]:
    """Return a state as it is sent."""
    wait = state.wait
    packed = wait and [
        wait.kind,
        list(wait.nodes),
        None if wait.awaited is None else list(wait.awaited),
        wait.tag,
    ]
    return [state.command, state.serial, packed, list(state.sent), list(state.received)]


def read_state(value: object) -> State:
    """Return a state that was sent. Raises `ProtocolError` if it is malformed."""
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

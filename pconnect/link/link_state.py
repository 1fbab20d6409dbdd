"""The life of a link as a state machine. Sans-I/O.

One end dials the link, and dials again whenever the engine at the other end is replaced. Each time, the link gets a new
*generation*. A call that waits for a message of an older generation would wait in vain, so calls compare generations.
"""

import enum
from collections.abc import Mapping

from pconnect.protocol.transitions import next_state


class LinkState(enum.Enum):
    """The state of a link."""

    OWN = "it represents this node itself, which is a member of every network and needs no link"
    AWAITED = "it is being made, for the first time or again; data sent meanwhile is queued"
    OPEN = "messages can pass"
    CLOSED = "it broke or was closed, and the connection has the reason"


class LinkEvent(enum.Enum):
    """An event in the life of a link."""

    CONNECTED = "there is a channel to the other end"
    BROKE = "the channel broke, or the peer violated the protocol"
    CLOSED_HERE = "this end closes it"
    ABANDONED = "this process is a fork of the one that owns the channel"
    RESET = "the engine at the other end is being replaced"
    VANISHED = "the client at the other end is gone, and may return as another process"


_S = LinkState
_E = LinkEvent

LINK_TRANSITIONS: Mapping[LinkState, Mapping[LinkEvent, LinkState]] = {
    _S.OWN: {_E.CLOSED_HERE: _S.OWN, _E.ABANDONED: _S.OWN},
    _S.AWAITED: {
        _E.CONNECTED: _S.OPEN,
        _E.BROKE: _S.CLOSED,
        _E.CLOSED_HERE: _S.CLOSED,
        _E.ABANDONED: _S.CLOSED,
        _E.RESET: _S.AWAITED,
    },
    _S.OPEN: {
        _E.BROKE: _S.CLOSED,
        _E.CLOSED_HERE: _S.CLOSED,
        _E.ABANDONED: _S.CLOSED,
        _E.RESET: _S.AWAITED,
        _E.VANISHED: _S.AWAITED,  # the engine keeps the data received from it; see `pserver.orphans.client_link`
    },
    _S.CLOSED: {
        _E.CONNECTED: _S.CLOSED,  # the handshake finished too late; its channel is closed
        _E.BROKE: _S.CLOSED,  # the first reason is kept
        _E.CLOSED_HERE: _S.CLOSED,
        _E.ABANDONED: _S.CLOSED,
        _E.RESET: _S.AWAITED,
    },
}


class LinkLife:
    """The state of one link."""

    __slots__ = ("_name", "generation", "state", "was_reported")

    def __init__(self, state: LinkState, name: str) -> None:
        self.state = state
        self.generation = 0  #: number of resets
        #: Whether an error has reported that it is closed; see `pconnect.select_sockets`.
        self.was_reported = False
        self._name = name

    def happen(self, event: LinkEvent) -> None:
        """Move to the next state.

        Raises `InternalError` if the event is not possible in this state, which is then unchanged.
        """
        self.state = next_state(LINK_TRANSITIONS, self.state, event, self._name)
        if event is LinkEvent.RESET:
            self.generation += 1
            self.was_reported = False

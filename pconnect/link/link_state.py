"""The life of a link: a state machine. No I/O.

A link is dialed once by one of its ends, and again whenever the engine at its other end is replaced. Each time it gets
another *generation*: a call that waits for something of an older generation waits in vain, and compares.
"""

import enum
from collections.abc import Mapping

from pconnect.protocol.transitions import next_state


class LinkState(enum.Enum):
    """Where a link is in its life."""

    OWN = "it stands for this node itself, which is a member of every network and needs no link"
    AWAITED = "it is being made, for the first time or again; what is sent meanwhile is queued"
    OPEN = "messages pass"
    CLOSED = "it broke or was closed, and the connection knows why"


class LinkEvent(enum.Enum):
    """What may happen to a link."""

    CONNECTED = "a channel to the other end is there"
    BROKE = "the channel broke, or the peer sent what it must not"
    CLOSED_HERE = "this end closes it"
    ABANDONED = "this process was forked from the one that owns the channel"
    RESET = "the engine at the other end is being replaced"
    VANISHED = "the client at the other end is gone, and may come back as another process"


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
        _E.VANISHED: _S.AWAITED,  # the engine keeps what has come from there; see `pserver.orphans.client_link`
    },
    _S.CLOSED: {
        _E.CONNECTED: _S.CLOSED,  # the handshake ended too late; its channel is closed
        _E.BROKE: _S.CLOSED,  # the first reason stays
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
        self.generation = 0  #: how often it was reset
        #: Whether somebody was told that it is closed; see `pconnect.select_sockets`.
        self.was_reported = False
        self._name = name

    def happen(self, event: LinkEvent) -> None:
        """Go on to the next state.

        Raises `InternalError` if this cannot happen in this state, which stays as it is.
        """
        self.state = next_state(LINK_TRANSITIONS, self.state, event, self._name)
        if event is LinkEvent.RESET:
            self.generation += 1
            self.was_reported = False

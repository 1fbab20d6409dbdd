"""The life of a node as seen by the client: a state machine. No I/O.

The client learns about a node through two independent connections: the command channel leads to the supervisor, the
data connection to the engine. When an engine dies, its data connection may break before the supervisor reports the
death. So a node whose data connection is lost (CUT) may still turn out to have died.

The user's callbacks run inside the client's waits. They may close the network, or restart a node during a restart: a
few transitions of the table exist for them.
"""

import enum
import math
from collections.abc import Mapping

from pconnect.errors import EngineDiedError
from pconnect.protocol.kinds import Kind
from pconnect.protocol.transitions import next_state

#: A server's reason for ending a session when the server is stopped; it may be started again.
SERVER_STOPPED = "the server was stopped"


class NodeState(enum.Enum):
    """The states of a node."""

    JOINING = "its engine is connecting to the other nodes for the first time"
    OPEN = "its engine runs commands"
    CUT = "its data connection is lost, for an unknown reason"
    RESTARTING = "the client has asked for another engine"
    REJOINING = "its new engine is connecting to the other nodes"
    REJOINED = "its new engine is connected; the client's own connection to it may still be missing"
    DIED = "its engine has ended, but its server is running"
    LOST = "its server or its machine is gone"
    GONE = "its server or its machine is gone, after its engine ended"
    CLOSING = "the client has asked to end the session"
    CLOSED = "the session has ended, or the network was closed"


class NodeEvent(enum.Enum):
    """The events in the life of a node."""

    MESHED = "the engine reports the result of connecting to the other nodes"
    ENGINE_DIED = "the server reports that the engine has ended"
    SESSION_ENDED = "the server reports that it ends the session"
    DATA_LOST = "the data connection broke"
    CHANNEL_LOST = "the command channel broke"
    RESTART_ASKED = "the client asks for another engine and gives up the old one"
    LOGGED_IN = "the client has logged in again, and forgets the old session"
    ENGINE_REPLACED = "the new engine waits for its set-up; the client forgets the old one"
    RESTART_DONE = "the new engine is a member of the network"
    RESTART_FAILED = "the client gives up the restart"
    CLOSE_ASKED = "the client asks to end the session"
    CLOSE_ANSWERED = "the server confirms that the engine has ended"
    NETWORK_CLOSED = "the client has closed all its connections"


#: The messages that change the state of a node.
EVENTS = {
    Kind.MESHED: NodeEvent.MESHED,
    Kind.DIED: NodeEvent.ENGINE_DIED,
    Kind.STOPPING: NodeEvent.SESSION_ENDED,
    Kind.CLOSED: NodeEvent.CLOSE_ANSWERED,
}

_S = NodeState
_E = NodeEvent

NODE_TRANSITIONS: Mapping[NodeState, Mapping[NodeEvent, NodeState]] = {
    _S.JOINING: {
        _E.MESHED: _S.OPEN,
        _E.ENGINE_DIED: _S.DIED,
        _E.SESSION_ENDED: _S.DIED,
        _E.DATA_LOST: _S.CUT,
        _E.CHANNEL_LOST: _S.LOST,
        _E.CLOSE_ASKED: _S.CLOSING,  # the network was closed while the node was being added
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
    _S.OPEN: {
        _E.ENGINE_DIED: _S.DIED,
        _E.SESSION_ENDED: _S.DIED,
        _E.DATA_LOST: _S.CUT,
        _E.CHANNEL_LOST: _S.LOST,
        _E.RESTART_ASKED: _S.RESTARTING,
        _E.CLOSE_ASKED: _S.CLOSING,
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
    _S.CUT: {
        _E.MESHED: _S.CUT,  # the connection broke while the node was joining
        _E.ENGINE_DIED: _S.DIED,
        _E.SESSION_ENDED: _S.DIED,
        _E.CHANNEL_LOST: _S.LOST,
        _E.RESTART_ASKED: _S.RESTARTING,
        _E.CLOSE_ASKED: _S.CLOSING,
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
    _S.RESTARTING: {
        _E.MESHED: _S.RESTARTING,  # of the old engine, which was not there yet
        _E.ENGINE_DIED: _S.DIED,  # of the old engine, before its server received the restart
        _E.SESSION_ENDED: _S.DIED,
        _E.DATA_LOST: _S.RESTARTING,
        _E.CHANNEL_LOST: _S.GONE,
        _E.RESTART_ASKED: _S.RESTARTING,  # a callback restarts it again
        _E.ENGINE_REPLACED: _S.REJOINING,
        _E.RESTART_FAILED: _S.DIED,
        _E.CLOSE_ASKED: _S.CLOSING,
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
    _S.REJOINING: {
        _E.MESHED: _S.REJOINED,
        _E.ENGINE_DIED: _S.DIED,
        _E.SESSION_ENDED: _S.DIED,
        _E.DATA_LOST: _S.REJOINING,
        _E.CHANNEL_LOST: _S.GONE,
        _E.RESTART_ASKED: _S.RESTARTING,
        _E.RESTART_FAILED: _S.DIED,
        _E.CLOSE_ASKED: _S.CLOSING,
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
    _S.REJOINED: {
        _E.ENGINE_DIED: _S.DIED,
        _E.SESSION_ENDED: _S.DIED,
        _E.DATA_LOST: _S.REJOINED,
        _E.CHANNEL_LOST: _S.LOST,
        _E.RESTART_ASKED: _S.RESTARTING,
        _E.RESTART_DONE: _S.OPEN,
        _E.RESTART_FAILED: _S.DIED,
        _E.CLOSE_ASKED: _S.CLOSING,
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
    _S.DIED: {
        _E.MESHED: _S.DIED,  # of a new engine, after the client gave up its restart
        _E.ENGINE_DIED: _S.DIED,  # of that engine, which ends
        _E.SESSION_ENDED: _S.DIED,
        _E.DATA_LOST: _S.DIED,
        _E.CHANNEL_LOST: _S.GONE,
        _E.RESTART_ASKED: _S.RESTARTING,
        _E.ENGINE_REPLACED: _S.REJOINING,  # it died during its restart
        _E.LOGGED_IN: _S.REJOINING,  # its server had ended the session
        _E.RESTART_FAILED: _S.DIED,
        _E.CLOSE_ASKED: _S.DIED,  # no command runs, so nothing else changes
        _E.CLOSE_ANSWERED: _S.CLOSED,
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
    _S.LOST: {
        _E.DATA_LOST: _S.LOST,
        _E.RESTART_FAILED: _S.GONE,  # no engine can be started there
        _E.LOGGED_IN: _S.REJOINING,
        _E.CLOSE_ASKED: _S.LOST,
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
    _S.GONE: {
        _E.DATA_LOST: _S.GONE,
        _E.RESTART_FAILED: _S.GONE,
        _E.LOGGED_IN: _S.REJOINING,
        _E.CLOSE_ASKED: _S.GONE,
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
    _S.CLOSING: {
        _E.MESHED: _S.CLOSING,  # a callback closed the network during a restart
        _E.ENGINE_DIED: _S.DIED,
        _E.SESSION_ENDED: _S.DIED,
        _E.DATA_LOST: _S.CLOSING,
        _E.CHANNEL_LOST: _S.LOST,
        _E.RESTART_FAILED: _S.CLOSING,
        _E.CLOSE_ASKED: _S.CLOSING,
        _E.CLOSE_ANSWERED: _S.CLOSED,
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
    _S.CLOSED: {
        _E.ENGINE_DIED: _S.CLOSED,  # its jobs were detached, so it was never asked to end
        _E.SESSION_ENDED: _S.CLOSED,  # other servers take so long that this one stops waiting
        _E.DATA_LOST: _S.CLOSED,
        _E.CHANNEL_LOST: _S.CLOSED,
        _E.RESTART_FAILED: _S.CLOSED,
        _E.CLOSE_ASKED: _S.CLOSED,
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
}

#: States in which a node has no engine that could run commands; `NodeLife.death` has the reason.
DEAD_STATES = frozenset({_S.RESTARTING, _S.REJOINING, _S.REJOINED, _S.DIED, _S.GONE})
RESTARTING_STATES = frozenset({_S.RESTARTING, _S.REJOINING, _S.REJOINED})
_CLOSING_STATES = frozenset({_S.CLOSING, _S.CLOSED})
_LOST_STATES = frozenset({_S.CUT, _S.LOST})


class NodeLife:
    """The state of one node, and the reasons for it."""

    __slots__ = ("_name", "death", "died_at", "refusal", "session_is_over", "state", "was_killed")

    def __init__(self, name: str) -> None:
        self.state = NodeState.JOINING  #: the current state
        #: Why commands cannot run there, in the states `DEAD_STATES`; otherwise ``None``.
        self.death: EngineDiedError | None = None
        self.died_at = -math.inf  #: when the client first knew, by the caller's clock
        self.session_is_over = False  #: whether its server has reported the end: it starts no other engine
        self.refusal = ""  #: why its server accepted no new session after the login; empty if it did
        #: Whether the engine had to be killed on close; ``None`` before the server has answered.
        self.was_killed: bool | None = None
        self._name = name

    def happen(self, event: NodeEvent) -> None:
        """Change to the next state.

        Raises `InternalError` if this event is impossible in this state, which then does not change.
        """
        self.state = next_state(NODE_TRANSITIONS, self.state, event, self._name)
        if self.state not in DEAD_STATES:
            self.death = None

    def die(self, event: NodeEvent, death: EngineDiedError, now: float | None = None) -> None:
        """Change to a state without an engine, because of `death`; without `now`, `died_at` does not change.

        Raises `InternalError` like `happen`.
        """
        self.happen(event)
        self.session_is_over |= event is NodeEvent.SESSION_ENDED
        if event is NodeEvent.LOGGED_IN:
            self.session_is_over, self.refusal = False, ""
        if self.state in DEAD_STATES:
            self.death = death
            self.died_at = self.died_at if now is None else now

    def allows(self, event: NodeEvent) -> bool:
        """Whether this event is possible now."""
        return event in NODE_TRANSITIONS[self.state]

    @property
    def public_state(self) -> str:
        """The state as one word for users: ``open``, ``died`` (its engine), ``lost`` (its server), or ``closed``."""
        if self.state in DEAD_STATES:
            return "died"
        if self.state in _LOST_STATES:
            return "lost"
        return "closed" if self.state is NodeState.CLOSED else "open"

    @property
    def is_restarting(self) -> bool:
        """Whether a restart is in progress."""
        return self.state in RESTARTING_STATES

    @property
    def is_closing(self) -> bool:
        """Whether the client has asked to end the session, and the node had an engine then."""
        return self.state in _CLOSING_STATES

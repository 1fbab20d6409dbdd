"""The life of a node as the client sees it: a state machine. No I/O.

The client hears of a node through two connections that know nothing of each other: the command channel leads to the
supervisor, the data connection to the engine. When an engine dies, its data connection may break before the supervisor
reports the death. So a node whose data connection is lost (CUT) may still turn out to have died.

The user's callbacks run inside the client's waits. They may close the network or restart a node in the middle of a
restart: a few transitions of the table are there for them.
"""

import enum
import math
from collections.abc import Mapping

from pconnect.errors import EngineDiedError
from pconnect.protocol.kinds import Kind
from pconnect.protocol.transitions import next_state

#: What a server says when it ends a session because it is stopped; it may be started again.
SERVER_STOPPED = "the server was stopped"


class NodeState(enum.Enum):
    """The states of a node."""

    JOINING = "its engine connects itself with the other nodes, for the first time"
    OPEN = "its engine runs commands"
    CUT = "its data connection is lost, and the client does not know why"
    RESTARTING = "the client has asked for another engine"
    REJOINING = "its new engine connects itself with the other nodes"
    REJOINED = "its new engine has done so; the client's own connection to it may still be missing"
    DIED = "its engine has ended, and its server is there"
    LOST = "its server or its machine is gone"
    GONE = "its server or its machine is gone, after its engine has ended"
    CLOSING = "the client has asked for the end of the session"
    CLOSED = "the session has ended, or the network was closed"


class NodeEvent(enum.Enum):
    """What may happen to a node."""

    MESHED = "the engine says how connecting with the other nodes went"
    ENGINE_DIED = "the server says that the engine has ended"
    SESSION_ENDED = "the server says that it ends the session"
    DATA_LOST = "the data connection broke"
    CHANNEL_LOST = "the command channel broke"
    RESTART_ASKED = "the client asks for another engine and gives up the old one"
    LOGGED_IN = "the client has logged in anew, and forgets the old session"
    ENGINE_REPLACED = "the new engine waits for its set-up; the client forgets the old one"
    RESTART_DONE = "the new engine is a member of the network"
    RESTART_FAILED = "the client gives up the restart"
    CLOSE_ASKED = "the client asks for the end of the session"
    CLOSE_ANSWERED = "the server says that the engine has ended for it"
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
        _E.CLOSE_ASKED: _S.CLOSING,  # it was to be added to a network that is closed meanwhile
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
        _E.MESHED: _S.RESTARTING,  # the old engine's, which was not there yet
        _E.ENGINE_DIED: _S.DIED,  # the old engine, before its server heard of the restart
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
        _E.MESHED: _S.DIED,  # a new engine that comes after the client gave up its restart
        _E.ENGINE_DIED: _S.DIED,  # and so it ends
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
        _E.RESTART_FAILED: _S.GONE,  # nobody can start an engine there
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
        _E.ENGINE_DIED: _S.CLOSED,  # of a node whose jobs were detached: it was never asked to end
        _E.SESSION_ENDED: _S.CLOSED,  # other servers take so long that this one gives up waiting for our end
        _E.DATA_LOST: _S.CLOSED,
        _E.CHANNEL_LOST: _S.CLOSED,
        _E.RESTART_FAILED: _S.CLOSED,
        _E.CLOSE_ASKED: _S.CLOSED,
        _E.NETWORK_CLOSED: _S.CLOSED,
    },
}

#: States in which a node has no engine that could run commands, for the reason in `NodeLife.death`.
DEAD_STATES = frozenset({_S.RESTARTING, _S.REJOINING, _S.REJOINED, _S.DIED, _S.GONE})
RESTARTING_STATES = frozenset({_S.RESTARTING, _S.REJOINING, _S.REJOINED})
_CLOSING_STATES = frozenset({_S.CLOSING, _S.CLOSED})
_LOST_STATES = frozenset({_S.CUT, _S.LOST})


class NodeLife:
    """The state of one node, and how it came into it."""

    __slots__ = ("_name", "death", "died_at", "refusal", "session_is_over", "state", "was_killed")

    def __init__(self, name: str) -> None:
        self.state = NodeState.JOINING  #: where it is
        #: Why commands cannot run there, in the states `DEAD_STATES`; else ``None``.
        self.death: EngineDiedError | None = None
        self.died_at = -math.inf  #: when that was known first, an instant of the caller's clock
        self.session_is_over = False  #: whether its server has said so: it starts no other engine
        self.refusal = ""  #: why its server has taken no new session after the login; empty if it has
        #: Whether the engine had to be killed at the close; ``None`` before the server has answered.
        self.was_killed: bool | None = None
        self._name = name

    def happen(self, event: NodeEvent) -> None:
        """Change to the next state.

        Raises `InternalError` if this cannot happen in this state, which stays as it is.
        """
        self.state = next_state(NODE_TRANSITIONS, self.state, event, self._name)
        if self.state not in DEAD_STATES:
            self.death = None

    def die(self, event: NodeEvent, death: EngineDiedError, now: float | None = None) -> None:
        """Change to a state without an engine, because of `death`; without `now`, `died_at` stays what it was.

        Raises `InternalError` as by `happen`.
        """
        self.happen(event)
        self.session_is_over |= event is NodeEvent.SESSION_ENDED
        if event is NodeEvent.LOGGED_IN:
            self.session_is_over, self.refusal = False, ""
        if self.state in DEAD_STATES:
            self.death = death
            self.died_at = self.died_at if now is None else now

    def allows(self, event: NodeEvent) -> bool:
        """Whether this can happen now."""
        return event in NODE_TRANSITIONS[self.state]

    @property
    def told_as(self) -> str:
        """The state in a word, for users: ``open``, ``died`` (its engine), ``lost`` (its server), or ``closed``."""
        if self.state in DEAD_STATES:
            return "died"
        if self.state in _LOST_STATES:
            return "lost"
        return "closed" if self.state is NodeState.CLOSED else "open"

    @property
    def is_restarting(self) -> bool:
        """Whether a restart is on its way."""
        return self.state in RESTARTING_STATES

    @property
    def is_closing(self) -> bool:
        """Whether the client has asked for the end of the session, and the node had an engine then."""
        return self.state in _CLOSING_STATES

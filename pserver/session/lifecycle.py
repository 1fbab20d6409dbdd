"""The lives of a supervisor, of its engine, and of the hand-over of its jobs: three state machines without I/O.

They are drawn in doc/states. The supervisor reports each event and acts on the state that follows. What is in no row of
a table cannot happen; if it does, `handle` raises instead of continuing in an unknown state.

Supervisor and engine are two machines because they end apart: an engine may die and be replaced while its supervisor
lasts, and a supervisor of detached jobs lasts without a client.
"""

import enum
from collections.abc import Mapping
from typing import Generic

from pconnect.protocol.transitions import EventT, StateT, next_state


class SupervisorState(enum.Enum):
    """Where a supervisor is between login and close."""

    OPEN = "the client is there"
    ORPHANED = "the client has vanished, and may come back for a while; the engine goes on"
    DETACHED = "the client has left its jobs here; it may be there a little longer"
    CLOSING = "the client closes the network: the engine is being ended"
    STOPPING = "about to end, of which a client that is still there hears"
    ENDED = "nothing is left to do"


class SupervisorEvent(enum.Enum):
    """What changes the state of a supervisor."""

    DETACH = "the client has handed over its jobs"
    CLOSE = "the client closes the network"
    LOST = "the command channel is gone"
    VANISHED = "so it is, of a client that may come back"
    RESUMED = "the client is there again, as another process"
    EXPIRED = "it has not come back in time"
    STOP = "the server stops"
    CLOSED = "the engine has ended, and the client has been told"
    FINISHED = "all detached jobs have ended"


_S, _SE = SupervisorState, SupervisorEvent
SUPERVISOR_TRANSITIONS: Mapping[SupervisorState, Mapping[SupervisorEvent, SupervisorState]] = {
    _S.OPEN: {
        _SE.DETACH: _S.DETACHED,
        _SE.CLOSE: _S.CLOSING,
        _SE.LOST: _S.ENDED,
        _SE.VANISHED: _S.ORPHANED,
        _SE.STOP: _S.STOPPING,
    },
    _S.ORPHANED: {
        _SE.DETACH: _S.DETACHED,  # the last it said, on its job channel
        _SE.RESUMED: _S.OPEN,
        _SE.EXPIRED: _S.ENDED,
        _SE.STOP: _S.ENDED,
    },
    _S.DETACHED: {
        _SE.CLOSE: _S.DETACHED,  # the client leaves in order; the jobs go on
        _SE.LOST: _S.DETACHED,
        _SE.STOP: _S.ENDED,
        _SE.FINISHED: _S.ENDED,
    },
    _S.CLOSING: {
        _SE.DETACH: _S.CLOSING,  # too late
        _SE.CLOSE: _S.CLOSING,
        _SE.LOST: _S.CLOSING,  # the engine still gets its time to end
        _SE.STOP: _S.CLOSING,
        _SE.CLOSED: _S.STOPPING,
    },
    # The last message to the client is under way; whatever arrives meanwhile is too late.
    _S.STOPPING: {
        _SE.DETACH: _S.STOPPING,
        _SE.CLOSE: _S.STOPPING,
        _SE.LOST: _S.ENDED,
        _SE.STOP: _S.STOPPING,
    },
    _S.ENDED: {
        _SE.DETACH: _S.ENDED,
        _SE.CLOSE: _S.ENDED,
        _SE.LOST: _S.ENDED,
        _SE.STOP: _S.ENDED,
    },
}


class EngineState(enum.Enum):
    """Where an engine is between its start and its end."""

    STARTING = "its process is there; it has not joined its network yet"
    READY = "it takes commands and can fork workers"
    KILLED = "sent SIGKILL, and not ended yet"
    RESTARTING = "sent SIGKILL, and not ended yet; another one is to take its place"
    REPLACING = "ended; another one is being started in its place"
    DEAD = "ended, and not replaced; data connections to it are refused"
    CLOSING = "asked to end, because the client closes the network"
    CLOSED = "ended, for good"


class EngineEvent(enum.Enum):
    """What changes the state of an engine."""

    MESHED = "it has joined its network"
    KILL = "the client, or the time limit of a command, kills it"
    RESTART = "the client wants another one in its place"
    CLOSE = "the client closes the network"
    ENDED = "its process has ended"
    STARTED = "the process of another one is there"
    FAILED = "another one could not be started"


_E, _EE = EngineState, EngineEvent
ENGINE_TRANSITIONS: Mapping[EngineState, Mapping[EngineEvent, EngineState]] = {
    _E.STARTING: {
        _EE.MESHED: _E.READY,
        _EE.KILL: _E.KILLED,
        _EE.RESTART: _E.RESTARTING,
        _EE.CLOSE: _E.CLOSING,
        _EE.ENDED: _E.DEAD,
    },
    _E.READY: {
        _EE.KILL: _E.KILLED,
        _EE.RESTART: _E.RESTARTING,
        _EE.CLOSE: _E.CLOSING,
        _EE.ENDED: _E.DEAD,
    },
    # What an engine has said just before its end is read afterwards: MESHED may come in each state that follows.
    _E.KILLED: {
        _EE.MESHED: _E.KILLED,
        _EE.KILL: _E.KILLED,
        _EE.RESTART: _E.RESTARTING,
        _EE.CLOSE: _E.CLOSING,
        _EE.ENDED: _E.DEAD,
    },
    _E.RESTARTING: {
        _EE.MESHED: _E.RESTARTING,
        _EE.KILL: _E.RESTARTING,
        _EE.RESTART: _E.RESTARTING,
        _EE.CLOSE: _E.CLOSING,
        _EE.ENDED: _E.REPLACING,
    },
    _E.REPLACING: {
        _EE.MESHED: _E.REPLACING,
        _EE.KILL: _E.REPLACING,
        _EE.RESTART: _E.REPLACING,  # the client hears of the one that is being started
        _EE.CLOSE: _E.CLOSED,
        _EE.STARTED: _E.STARTING,
        _EE.FAILED: _E.DEAD,
    },
    _E.DEAD: {
        _EE.MESHED: _E.DEAD,
        _EE.KILL: _E.DEAD,
        _EE.RESTART: _E.REPLACING,
        _EE.CLOSE: _E.CLOSED,
    },
    _E.CLOSING: {
        _EE.MESHED: _E.CLOSING,
        _EE.KILL: _E.CLOSING,  # it ends sooner, that is all
        _EE.RESTART: _E.CLOSING,
        _EE.ENDED: _E.CLOSED,
    },
    _E.CLOSED: {
        _EE.MESHED: _E.CLOSED,
        _EE.KILL: _E.CLOSED,
        _EE.RESTART: _E.CLOSED,
    },
}


class HandOverState(enum.Enum):
    """How far a client has handed over its jobs."""

    IDLE = "it has not begun"
    COPYING = "it sends copies of its jobs"
    QUIESCING = "workers end what they are sending, and put results into the job store from then on"
    QUIET = "they send nothing more; the client takes in what is on its way"
    DETACHED = "the client has left; the jobs are the session's"


class HandOverEvent(enum.Enum):
    """What changes it: each a message of the client, but for `SILENT`."""

    BEGIN = "KEEP with the digest of its secret"
    FORGET = "KEEP without one, because it has changed its mind"
    COPY = "KEEP with a job"
    QUIESCE = "DETACH"
    SILENT = "no worker is sending to the client"
    LEAVE = "LEAVE"


_H, _HE = HandOverState, HandOverEvent
HAND_OVER_TRANSITIONS: Mapping[HandOverState, Mapping[HandOverEvent, HandOverState]] = {
    _H.IDLE: {_HE.BEGIN: _H.COPYING, _HE.FORGET: _H.IDLE},
    _H.COPYING: {_HE.FORGET: _H.IDLE, _HE.COPY: _H.COPYING, _HE.QUIESCE: _H.QUIESCING},
    _H.QUIESCING: {_HE.FORGET: _H.IDLE, _HE.SILENT: _H.QUIET},
    _H.QUIET: {_HE.FORGET: _H.IDLE, _HE.LEAVE: _H.DETACHED},
    _H.DETACHED: {},
}


class _Lifecycle(Generic[StateT, EventT]):
    _what: str

    def __init__(self, transitions: Mapping[StateT, Mapping[EventT, StateT]], state: StateT) -> None:
        self._transitions = transitions
        self.state = state

    def allows(self, event: EventT) -> bool:
        """Tell whether an event can happen in this state."""
        return event in self._transitions[self.state]

    def handle(self, event: EventT) -> StateT:
        """Take an event in; return the state that follows.

        Raises `InternalError` if the event cannot happen in this state. The state is as before.
        """
        self.state = next_state(self._transitions, self.state, event, self._what)
        return self.state


class SupervisorLifecycle(_Lifecycle[SupervisorState, SupervisorEvent]):
    """The life of one session.

    `state`: where it is. `reason`: why it ends, in words; empty while it lasts, and if the client has ended it by
    leaving. `end_grace`: seconds for the engine to end, once the client closes the network. `farewell`: seconds for the
    last message to reach a client that is slow to read.
    """

    _what = "the session"

    def __init__(self) -> None:
        super().__init__(SUPERVISOR_TRANSITIONS, SupervisorState.OPEN)
        self.reason = ""
        self.end_grace = 0.0
        self.farewell = 1.0

    @property
    def is_serving(self) -> bool:
        """Whether the supervisor has to go on."""
        return self.state in {SupervisorState.OPEN, SupervisorState.ORPHANED, SupervisorState.DETACHED}


class EngineLifecycle(_Lifecycle[EngineState, EngineEvent]):
    """The life of the engines of one session, each in the place of the one before.

    `state`: where the present one is. `why_killed`: what the client is to hear of its death besides the signal; empty
    if that says it all. `restart`: the number of the client's last request for another one.
    """

    _what = "the engine"

    def __init__(self) -> None:
        super().__init__(ENGINE_TRANSITIONS, EngineState.STARTING)
        self.why_killed = ""
        self.restart = 0

    @property
    def has_process(self) -> bool:
        """Whether its process has not ended."""
        return self.state not in {EngineState.REPLACING, EngineState.DEAD, EngineState.CLOSED}


class HandOverLifecycle(_Lifecycle[HandOverState, HandOverEvent]):
    """The hand-over of a client's jobs to its session. What is in no row, a client sends out of turn.

    `state`: how far it is.
    """

    _what = "the hand-over of jobs"

    def __init__(self) -> None:
        super().__init__(HAND_OVER_TRANSITIONS, HandOverState.IDLE)

    @property
    def uses_store(self) -> bool:
        """Whether workers put results into the job store, instead of sending them to the client."""
        return self.state not in {HandOverState.IDLE, HandOverState.COPYING}

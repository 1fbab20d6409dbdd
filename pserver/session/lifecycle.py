"""The life cycles of a supervisor, of its engine, and of the hand-over of its jobs: three state machines without I/O.

doc/states has diagrams of them. The supervisor reports each event and acts on the new state. An event that has no entry
in the table cannot happen in that state; if it does, `handle` raises instead of continuing in an unknown state.

Supervisor and engine have separate machines because they end separately: an engine may die and be replaced while its
supervisor lives on, and the supervisor of detached jobs lives on without a client.
"""

import enum
from collections.abc import Mapping
from typing import Generic

from pconnect.protocol.transitions import EventT, StateT, next_state


class SupervisorState(enum.Enum):
    """The states of a supervisor between login and close."""

    OPEN = "the client is connected"
    ORPHANED = "the client has vanished and may come back for a while; the engine continues"
    DETACHED = "the client has handed over its jobs; it may stay connected a little longer"
    CLOSING = "the client is closing the network; the engine is ending"
    STOPPING = "about to end; a client that is still connected is being notified"
    ENDED = "nothing is left to do"


class SupervisorEvent(enum.Enum):
    """The events that change the state of a supervisor."""

    DETACH = "the client has handed over its jobs"
    CLOSE = "the client closes the network"
    LOST = "the command channel is lost"
    VANISHED = "the command channel is lost, and the client may come back"
    RESUMED = "the client has come back, as another process"
    EXPIRED = "the client has not come back in time"
    STOP = "the server stops"
    CLOSED = "the engine has ended, and the client knows"
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
        _SE.DETACH: _S.DETACHED,  # the client's last message, on its job channel
        _SE.RESUMED: _S.OPEN,
        _SE.EXPIRED: _S.ENDED,
        _SE.STOP: _S.ENDED,
    },
    _S.DETACHED: {
        _SE.CLOSE: _S.DETACHED,  # the client leaves; the jobs continue
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
    # The last message to the client is under way; messages that arrive meanwhile are too late.
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
    """The states of an engine between its start and its end."""

    STARTING = "its process is running; it has not joined its network yet"
    READY = "it accepts commands and can fork workers"
    KILLED = "sent SIGKILL, but not ended yet"
    RESTARTING = "sent SIGKILL, but not ended yet; another engine will replace it"
    REPLACING = "ended; the engine that replaces it is starting"
    DEAD = "ended, and not replaced; data connections to it are refused"
    CLOSING = "asked to end, because the client is closing the network"
    CLOSED = "ended for good"


class EngineEvent(enum.Enum):
    """The events that change the state of an engine."""

    MESHED = "it has joined its network"
    KILL = "the client, or the time limit of a command, kills it"
    RESTART = "the client asks for another engine in its place"
    CLOSE = "the client closes the network"
    ENDED = "its process has ended"
    STARTED = "the process of the new engine is running"
    FAILED = "the new engine could not be started"


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
    # The last messages of an engine are read after its end, so MESHED may come in any of the following states.
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
        _EE.RESTART: _E.REPLACING,  # the answer is about the engine that is already starting
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
        _EE.KILL: _E.CLOSING,  # it only ends sooner
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
    """The states of the hand-over of a client's jobs."""

    IDLE = "not started"
    COPYING = "the client is sending copies of its jobs"
    QUIESCING = "workers finish sending results, then write results to the job store"
    QUIET = "workers no longer send; the client reads the results that are under way"
    DETACHED = "the client has left; the jobs belong to the session"


class HandOverEvent(enum.Enum):
    """The events that change the state: all but `SILENT` are messages from the client."""

    BEGIN = "KEEP with the digest of the client's secret"
    FORGET = "KEEP without a digest: the client has changed its mind"
    COPY = "KEEP with a job, or LIMIT"
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
        """Return whether an event can happen in this state."""
        return event in self._transitions[self.state]

    def handle(self, event: EventT) -> StateT:
        """Apply an event, and return the new state.

        Raises `InternalError` if the event cannot happen in this state; the state stays the same.
        """
        self.state = next_state(self._transitions, self.state, event, self._what)
        return self.state


class SupervisorLifecycle(_Lifecycle[SupervisorState, SupervisorEvent]):
    """The life cycle of one session.

    `state`: the current state. `reason`: why the session ends, as text; empty while it lasts, and if the client
    ended it by leaving. `end_grace`: seconds for the engine to end after the client closes the network. `farewell`:
    seconds for the last message to reach a client that reads slowly.
    """

    _what = "the session"

    def __init__(self) -> None:
        super().__init__(SUPERVISOR_TRANSITIONS, SupervisorState.OPEN)
        self.reason = ""
        self.end_grace = 0.0
        self.farewell = 1.0

    @property
    def is_serving(self) -> bool:
        """Whether the supervisor must keep running."""
        return self.state in {SupervisorState.OPEN, SupervisorState.ORPHANED, SupervisorState.DETACHED}


class EngineLifecycle(_Lifecycle[EngineState, EngineEvent]):
    """The life cycle of the engines of one session, each of which replaces the previous one.

    `state`: the state of the current engine. `why_killed`: the reason of its death, for the client, if the signal alone
    does not say it; else empty. `restart`: the number of the client's last request for a restart.
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
    """The hand-over of a client's jobs to its session. Events that the table does not allow are messages out of order.

    `state`: the current state.
    """

    _what = "the hand-over of jobs"

    def __init__(self) -> None:
        super().__init__(HAND_OVER_TRANSITIONS, HandOverState.IDLE)

    @property
    def uses_store(self) -> bool:
        """Whether workers write results to the job store, instead of sending them to the client."""
        return self.state not in {HandOverState.IDLE, HandOverState.COPYING}

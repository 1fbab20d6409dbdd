"""The daemon's records of a session and its nodes: its own observations, and the session's reports."""

import contextlib
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pconnect.protocol.preamble_check import PreambleCheck
from pserver.ctl.long_messages import send_long
from pserver.starter.session_starts import Started
from pserver.system.processes import kill_with_descendants
from srp_tools.rules.numbers import is_finite

#: Sends an answer, in JSON.
Reply = Callable[[str], object]


class Refusal(Protocol):
    """Returns the reason why a user cannot have a session for a network now; empty if there is none."""

    def __call__(self, user: str, network: str = "", *, is_exclusive: bool = False) -> str:
        """Return the reason; `is_exclusive`: whether the session shall be the only one."""


@dataclass(eq=False)
class Node:
    """A node of a session, with the session's reports about it."""

    session: "Session"
    #: The socket on which the session reports about the node; the session closes it when the node ends.
    control: socket.socket
    number: int = 0  #: its number in the network; 0 before the client is admitted
    #: Sockets that pass on connections to the engine, connections for jobs, and command channels of further nodes.
    handovers: Sequence[socket.socket] = ()
    is_detached: bool = False  #: whether it continues without its client
    is_exclusive: bool = False  #: whether its session reserves the whole server, see `pserver.duty.exclusion`
    orphaned_since: float | None = None  #: when its client vanished, if it may come back

    def note_absence(self, words: Mapping[str, Any]) -> None:
        """Record that the client has left, has vanished, or has returned."""
        self.is_detached |= "detached" in words
        since = words.get("orphaned")
        self.orphaned_since = since if is_finite(since) else None

    def tell(self, words: str) -> None:
        """Send its session a message of any length; drop it if the session has gone or does not read."""
        with contextlib.suppress(OSError):
            send_long(self.control, words.encode())


@dataclass(eq=False)
class Session:
    """A session process, with its reports about itself."""

    started: Started  #: its process
    peer: str
    since: float
    user: str | None = None  # set by a successful login
    failure: "LoginFailure | None" = None  # set by a failed login
    has_ended: bool = False
    start_ticks: int | None = None  #: identifies the process, see `pserver.system.processes`
    claimed: str | None = None  # the user for whom it was started; ``None`` after a return
    uid: int | None = None  # of its account, if that is not the server's
    how: str = ""  # the reason of its end, from its last report
    usage: dict[int, "Use"] = field(default_factory=dict)  # by node, from its reports
    network: str | None = None
    #: Tells members of the network from strangers.
    check: PreambleCheck = field(default_factory=lambda: PreambleCheck(b""))
    nodes: list[Node] = field(default_factory=list)
    #: The private folders of its nodes, each with the mark of its processes. The session removes them if it can.
    folders: dict[str, int] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.started.pid

    @property
    def is_control(self) -> bool:
        """Whether it only forwards an administrator's requests, without a network."""
        return self.user is not None and self.network is None

    @property
    def is_exclusive(self) -> bool:
        """Whether it reserves the whole server."""
        return any(node.is_exclusive for node in self.nodes)

    @property
    def is_detached(self) -> bool:
        """Whether its client has left, and only its jobs continue."""
        return bool(self.nodes) and all(node.is_detached for node in self.nodes)

    @property
    def orphaned_since(self) -> float | None:
        """When its client vanished, if all of its nodes have lost the client and it may come back."""
        instants = [node.orphaned_since for node in self.nodes if node.number]
        known = [instant for instant in instants if instant is not None]
        return min(known) if known and len(known) == len(instants) else None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.started.pidfd, number)

    def kill_all(self) -> None:
        """Kill it and all its descendants; a stopped process could not end them itself."""
        kill_with_descendants(self.pid, self.started.pidfd)

    @property
    def is_logging_in(self) -> bool:
        """Whether its login is in progress."""
        return self.user is None and self.failure is None and not self.has_ended


class Use(NamedTuple):
    """The resources that a node has used so far."""

    counts: Sequence[int]  #: commands, jobs, bytes received and sent
    running: int  #: number of running commands and jobs
    changed_at: float  #: time of the report
    memory: int = 0  #: bytes used by its engine and workers


class LoginFailure(NamedTuple):
    """Why a login has failed, as reported by its session."""

    user: str  #: as the client named it
    reason: str
    is_refused: bool  #: whether the password or the user name was wrong
    has_proved: bool = False  #: whether the password was right, but the server refuses the session

    @classmethod
    def read(cls, words: Mapping[str, Any]) -> "LoginFailure | None":
        """Read a session's report of a failed login; ``None`` if it is not valid."""
        match words:
            case {"user": str(), "reason": str(), "is_refused": bool(), "has_proved": bool()} if (
                len(words) == 4
            ):
                return cls(**words)
        return None


def count_of(told: object) -> int:
    """Return a count from a session's report; 0 if it is not valid.

    Sums outlive the session, and a number that is too large would make the sum impossible to write.
    """
    return told if is_finite(told) and isinstance(told, int) and told >= 0 else 0

"""A session and its nodes, as the daemon holds them: what it has seen of them, and what they have said."""

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

#: Takes an answer, in JSON.
Reply = Callable[[str], object]


class Refusal(Protocol):
    """Returns why a user gets no session for a network now; empty: there is no reason."""

    def __call__(self, user: str, network: str = "", *, is_exclusive: bool = False) -> str:
        """`is_exclusive`: whether it is to be the only one."""


@dataclass(eq=False)
class Node:
    """A node of a session, and what the session has said about it."""

    session: "Session"  #: whose node it is
    #: The socket on which the session tells of it; closed by the session when the node has ended.
    control: socket.socket
    number: int = 0  #: its number in the network; 0 before its client was admitted
    #: For connections to its engine, those for jobs, and command channels of further nodes.
    handovers: Sequence[socket.socket] = ()
    is_detached: bool = False  #: whether it continues without its client
    is_exclusive: bool = False  #: whether its session has the server for itself, see `pserver.duty.exclusion`
    orphaned_since: float | None = None  #: when its client vanished, if it did and may come back

    def note_absence(self, words: Mapping[str, Any]) -> None:
        """Take in that its client has left, has vanished, or is there again."""
        self.is_detached |= "detached" in words
        since = words.get("orphaned")
        self.orphaned_since = since if is_finite(since) else None

    def tell(self, words: str) -> None:
        """Send its session a message of any length, unless that has gone, or reads nothing."""
        with contextlib.suppress(OSError):
            send_long(self.control, words.encode())


@dataclass(eq=False)
class Session:
    """A session process, and what it has said about itself."""

    started: Started  #: its process
    peer: str
    since: float
    user: str | None = None  # once it has logged in
    failure: "LoginFailure | None" = None  # once its login has failed
    has_ended: bool = False
    start_ticks: int | None = None  #: which process it is, see `pserver.system.processes`
    claimed: str | None = None  # the user for whom it was started; ``None`` if it has come back
    uid: int | None = None  # of its account, if it is not that of the server
    how: str = ""  # it ends, as it has said at last
    usage: dict[int, "Use"] = field(default_factory=dict)  # as it has said, by node
    network: str | None = None
    #: Tells members of that network from strangers.
    check: PreambleCheck = field(default_factory=lambda: PreambleCheck(b""))
    nodes: list[Node] = field(default_factory=list)
    #: The private ones of its nodes, which it removes if it can, with the marks of the processes of each.
    folders: dict[str, int] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self.started.pid

    @property
    def is_control(self) -> bool:
        """Whether it only passes on the requests of an administrator, who has logged in to no network."""
        return self.user is not None and self.network is None

    @property
    def is_exclusive(self) -> bool:
        """Whether it has the server for itself."""
        return any(node.is_exclusive for node in self.nodes)

    @property
    def is_detached(self) -> bool:
        """Whether its client has left, so that only jobs go on."""
        return bool(self.nodes) and all(node.is_detached for node in self.nodes)

    @property
    def orphaned_since(self) -> float | None:
        """When its client vanished, if all of its nodes are without it, and it may come back."""
        instants = [node.orphaned_since for node in self.nodes if node.number]
        known = [instant for instant in instants if instant is not None]
        return min(known) if known and len(known) == len(instants) else None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.started.pidfd, number)

    def kill_all(self) -> None:
        """Kill it with all processes that it has started; it may be stopped, so that it would not end them."""
        kill_with_descendants(self.pid, self.started.pidfd)

    @property
    def is_logging_in(self) -> bool:
        """Whether its login goes on."""
        return self.user is None and self.failure is None and not self.has_ended


class Use(NamedTuple):
    """What a node has used so far."""

    counts: Sequence[int]  #: commands, jobs, bytes received and sent
    running: int  #: how many commands and jobs run
    changed_at: float  #: when it said so
    memory: int = 0  #: bytes of its engine and workers


class LoginFailure(NamedTuple):
    """Why a login has failed, as its session says it."""

    user: str  #: as the client named it
    reason: str
    is_refused: bool  #: whether the password was wrong, or there is no such user
    has_proved: bool = (
        False  #: whether the password was right, and the server takes no new session of this user
    )

    @classmethod
    def read(cls, words: Mapping[str, Any]) -> "LoginFailure | None":
        """Return what a session says of a login that failed; ``None`` if it makes no sense."""
        match words:
            case {"user": str(), "reason": str(), "is_refused": bool(), "has_proved": bool()} if (
                len(words) == 4
            ):
                return cls(**words)
        return None


def count_of(told: object) -> int:
    """Return a number that a session has told; 0 if it makes no sense.

    The sum of numbers that are too large could not be written any more, and would stay when the session has ended.
    """
    return told if is_finite(told) and isinstance(told, int) and told >= 0 else 0

"""What a connection knows about the node at its other end beyond the bytes."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from pconnect.errors import ParallelError


class Source(Protocol):
    """A connection, as far as a progress bar is concerned."""

    @property
    def arriving_bytes(self) -> tuple[int, int]:
        """How much of the message that is arriving is here, and how large it is."""


class Peer:
    """What is known about the node at the other end beyond the bytes; the client fills this in for its servers."""

    #: To be held where something is asked of it: no other thread uses the network meanwhile.
    guard: AbstractContextManager[object] = nullcontext()

    def check(self) -> None:
        """Raise what makes waiting for this peer useless, if anything does."""

    def interrupt(self, up_to: int | None = None) -> None:
        """Interrupt what this peer is doing for us, because the user pressed Ctrl-C."""

    def settle(self, deadline: float) -> str:  # noqa: ARG002 - the client's uses it
        """Wait for the end of what was interrupted; return the peer's name if it does not end."""
        return ""

    def cancel(self, number: int) -> None:
        """Interrupt one command, whether it has begun or not."""

    def kill(self, up_to: int | None = None) -> None:
        """End what this peer is doing for us by force."""

    def sources(self) -> Sequence[Source]:
        """Return the connections on which what this peer makes for us comes."""
        return []

    @property
    def busy(self) -> bool:
        """Whether this peer runs something, as far as can be known."""
        return True

    @property
    def trouble(self) -> str:
        """What is known to be wrong with this peer, in one line without its name."""
        return ""

    def remedy(self, connection: object) -> str:  # noqa: ARG002 - the client's uses it
        """Return what a user can do about the loss of a connection, for the end of its text."""
        return ""

    def check_epoch(self, epoch: int) -> None:
        """Raise what makes waiting for this peer's part in a collective call useless, if anything does."""

    def explain(self, epoch: int | None = None) -> ParallelError | None:  # noqa: ARG002 - the client's uses it
        """Return a better account of why the connection broke than it has itself, if there is one.

        With an epoch, of why the peer left the collective calls of that epoch.
        """
        return None


class RemovedNode(Peer):
    """A node that was removed from its network; nothing is known of it, and nothing can be done."""

    @property
    def busy(self) -> bool:
        """See `Peer.busy`."""
        return False

    def remedy(self, connection: object) -> str:  # noqa: ARG002 - there is one
        """See `Peer.remedy`."""
        return "; its number stays empty, choose other nodes"

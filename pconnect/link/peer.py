"""The state of the node at the other end of a connection. Only the client tracks it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from pconnect.errors import ParallelError


class Source(Protocol):
    """A connection, as far as a progress bar needs it."""

    @property
    def arriving_bytes(self) -> tuple[int, int]:
        """Received bytes and size of the message that is arriving."""


class Peer:
    """Hooks into the state of the node at the other end. They do nothing, except on the client."""

    #: Hold this during requests to the peer, so that no other thread uses the network.
    guard: AbstractContextManager[object] = nullcontext()

    def check(self) -> None:
        """Raise an error if waiting for this peer is pointless."""

    def interrupt(self, up_to: int | None = None) -> None:
        """Interrupt this peer's work for us, because the user pressed Ctrl-C."""

    def settle(self, deadline: float) -> str:  # noqa: ARG002 - the client's version uses it
        """Wait for the end of the interrupted work. Return the peer's name if it does not end."""
        return ""

    def cancel(self, number: int) -> None:
        """Interrupt one command, even if it has not begun."""

    def kill(self, up_to: int | None = None) -> None:
        """End this peer's work for us by force."""

    def sources(self) -> Sequence[Source]:
        """Return the connections on which this peer's results arrive."""
        return []

    @property
    def busy(self) -> bool:
        """Whether this peer is running something, as far as is known."""
        return True

    @property
    def trouble(self) -> str:
        """A known problem of this peer, in one line without its name."""
        return ""

    def remedy(self, connection: object) -> str:  # noqa: ARG002 - the client's version uses it
        """Return what a user can do about a lost connection, for the end of its message."""
        return ""

    def check_epoch(self, epoch: int) -> None:
        """Raise an error if waiting for this peer's part in a collective call is pointless."""

    def explain(self, epoch: int | None = None) -> ParallelError | None:  # noqa: ARG002 - the client's version uses it
        """Return a better explanation of why the connection broke than its own error, if there is one.

        With an epoch, explain why the peer left the collective calls of that epoch.
        """
        return None


class RemovedNode(Peer):
    """A node that was removed from its network. Nothing is known about it, and nothing can be done."""

    @property
    def busy(self) -> bool:
        """See `Peer.busy`."""
        return False

    def remedy(self, connection: object) -> str:  # noqa: ARG002 - the same for every connection
        """See `Peer.remedy`."""
        return "; its number is not reused, choose other nodes"

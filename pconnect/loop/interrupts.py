"""What Ctrl-C does to the commands that are waited for."""

import contextlib
from collections.abc import Sequence

from pconnect.link.peer import Peer
from srp_tools.steps import deadline_after

# After Ctrl-C so long, in seconds, one waits for the interrupted commands to end, so that their last words are shown
# where they belong. Most take some milliseconds; a long call of C code does not hear of it before it returns.
_INTERRUPT_GRACE = 0.7


class interrupting(contextlib.AbstractContextManager[None]):  # noqa: N801 - used as a function is
    """Pass Ctrl-C, raised inside, on to the peers that were waited for, and wait a moment for what they say to it.

    A second Ctrl-C in that moment, or while the same commands are waited for again, kills the engines.
    """

    def __init__(self, peers: Sequence[Peer], number: int | None = None) -> None:
        self._peers = peers
        self._number = number

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            return
        try:
            for peer in self._peers:
                peer.interrupt(self._number)
            deadline = deadline_after(_INTERRUPT_GRACE)
            busy = [words for peer in self._peers if (words := peer.settle(deadline))]
        except KeyboardInterrupt:
            for peer in self._peers:
                peer.kill(self._number)
            raise
        if busy and error is not None:
            error.add_note(
                f"{' and '.join(busy)} has not ended yet: Ctrl-C once more while it is waited for, or kill() of the "
                "node, ends its engine"
            )

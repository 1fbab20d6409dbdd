"""The errors of failed commands on one node, and where each is reported. No I/O.

An error belongs to its command: `Command.result` raises it, on each call. Otherwise it is reported by these rules,
which make sure that it is neither missed nor reported twice.

1. Once an error is reported, it is *seen*, and so are the errors of the same command on other nodes.
2. The next call that would wait for the node raises the oldest unseen error. It does so only after all
   values have arrived that the engine sent before the failure: earlier results are received first.
3. A collective call that needs the node raises the last failure of the epoch, seen or not, since the call cannot
   complete. Again, the values sent before the failure must have arrived.
4. A warning reports errors that are unseen when the network ends.
5. Rules 2 and 4 skip errors that the user knows about: the interrupt of a command that this client has cancelled
   or interrupted, or interrupts because the network is closed; and the errors of a command that this client has
   notified of a deadlock, because the client raises that deadlock itself.
6. A filter may turn a warning of a command into an error. The engine does not know this, so the command continues; it
   fails with the first such warning if it ends well, and with its own error otherwise. For collective calls
   (rule 3) it has not failed.
7. A restart clears all of this, except the text of the last error and the number of the last command that
   failed: the epoch that contains it has ended.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pconnect.commands.command import Command
from pconnect.errors import CollectiveError, DeadlockError, ParallelError, RemoteError

_SHOWN_CHARACTERS = 60  # of the source, in `last_error`


class _Failure(NamedTuple):
    command: Command
    error: RemoteError
    values_sent: int  # by the engine before it failed


class FailureLog:
    """The failures of one node."""

    def __init__(self) -> None:
        self.last_number = -1  #: number of the last command that failed or was lost
        #: Called when a command has failed or is lost.
        self.on_failure: Callable[[], object] = lambda: None
        self.last_error: str | None = None  #: a short text; ``None`` if there was no error
        self._unseen: deque[_Failure] = deque()
        self._last: _Failure | None = None
        self._told_of_deadlock = 0
        self._warnings: dict[int, Warning] = {}

    def add(self, command: Command, error: RemoteError, values_sent: int, *, is_closing: bool) -> None:
        """Record the error of a command, and how many values the engine had sent before it."""
        failure = self._last = _Failure(command, error, values_sent)
        self.last_number = max(self.last_number, command.number)
        self.on_failure()
        # Members of a collective call may learn from each other first that one of them was notified of a deadlock.
        is_known = command.number == self._told_of_deadlock and isinstance(
            error, DeadlockError | CollectiveError
        )
        if error.is_interrupt:
            is_known = is_known or is_closing or command.cancel_asked or command.interrupt_asked
        if not is_known:
            self._unseen.append(failure)
        self._describe(command, error)

    def add_warning(self, number: int, warning: Warning) -> None:
        """Keep a warning that a filter has turned into an error until its command ends."""
        self._warnings.setdefault(number, warning)

    def take_warning(self, number: int) -> Warning | None:
        """Remove the warning of a command that has ended, and return it."""
        return self._warnings.pop(number, None)

    def add_warned(self, command: Command, error: RemoteError) -> None:
        """Record the error that a warning has become; see rule 6."""
        self._unseen.append(_Failure(command, error, 0))
        self._describe(command, error)

    def lose(self, numbers: Iterable[int], error: ParallelError) -> None:
        """Record that commands ended with the node; calls that wait for the node raise their error anyway."""
        self.last_number = max([self.last_number, *numbers])
        self.on_failure()
        self.last_error = str(error)

    def tell_of_deadlock(self, number: int) -> None:
        """Record that this client notifies a command of a deadlock, which makes it fail; see rule 5."""
        self._told_of_deadlock = number

    def forget(self) -> None:
        """Clear the record of the old engine; see rule 7."""
        self._unseen.clear()
        self._warnings.clear()
        self._last = None

    def take_unseen(self, values_received: int) -> RemoteError | None:
        """Return the oldest unseen error and mark it as seen; see rule 2."""
        unseen = self._unseen
        while unseen and unseen[0].command.seen.error:
            unseen.popleft()
        if not unseen or values_received < unseen[0].values_sent:
            return None
        command, error, _ = unseen.popleft()
        command.seen.error = True
        return error

    def take_since(self, epoch: int, values_received: float = math.inf) -> RemoteError | None:
        """Return the last failure, marked as seen, if its command is of this epoch; see rule 3."""
        last = self._last
        if last is None or last.command.number < epoch or values_received < last.values_sent:
            return None
        last.command.seen.error = True
        return last.error

    def unseen(self) -> list[RemoteError]:
        """Return the unseen errors."""
        return [error for command, error, _ in self._unseen if not command.seen.error]

    def _describe(self, command: Command, error: RemoteError) -> None:
        self.last_error = f"{error.type_name} in {command.source[:_SHOWN_CHARACTERS]!r}"

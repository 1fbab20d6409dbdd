"""SIGINT in an engine, which ends the command that the supervisor means, and no other.

What the supervisor means stands in the page of `pserver.engine.command_page`, which has the order of it all. A signal
that the supervisor did not send is the user's own, as of `signal.raise_signal`; it ends whatever command runs.
"""

import signal
from collections.abc import Callable

from pserver.engine.command_page import CommandPage


class Interrupts:
    """The handler of SIGINT of one engine; it is the process's from now on.

    Parameters
    ----------
    page
        Shared with the supervisor.
    await_cancels
        Takes in what the supervisor has sent, until so many CANCEL messages have come in all.

    Attributes
    ----------
    in_command
        Whether a signal may be raised as `KeyboardInterrupt`. An attribute and not a method sets it: a signal that
        comes during a call could be raised in that.
    number
        The command that runs, or is about to; to be set before `in_command`.
    cancelled
        The commands that are not to begin.
    received
        How many CANCEL messages have come.
    """

    def __init__(self, page: CommandPage, await_cancels: Callable[[int], object]) -> None:
        self.in_command = False
        self.cancelled: set[int] = set()
        self.received = 0
        self._page = page
        self._await_cancels = await_cancels
        self.number = 0
        self._signals = 0  # of the supervisor, that were handled
        self._cancels = 0
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        signals = self._page.signals
        is_ours, self._signals = signals != self._signals, signals
        if self.in_command and (not is_ours or self._page.stops(self.number)):
            raise KeyboardInterrupt

    def cancel(self, number: int) -> None:
        """Take a CANCEL message."""
        self.received += 1
        self.cancelled.add(number)

    def may_begin(self) -> bool:
        """Return whether the command may run, which the page says has begun."""
        cancels = self._page.cancels
        if cancels != self._cancels:
            self._await_cancels(cancels)
            self._cancels = cancels
        is_cancelled = self.number in self.cancelled
        if self.cancelled:
            self.cancelled = {other for other in self.cancelled if other > self.number}
        return not (is_cancelled or self._page.stops(self.number))

"""SIGINT in an engine, which is to end the command that the supervisor means, and no other.

The supervisor sends a message that names the command, and then the signal. While a command runs, only that one can be
meant: the supervisor lets the next begin when it has heard of its end. Between commands the engine may be just before
the one that is meant, or just after it; so the signal is only recorded, and the command that begins next looks whether
the message names it.
"""

import signal
from collections.abc import Callable


class Interrupts:
    """The handler of SIGINT of one engine; it is the process's from now on.

    Parameters
    ----------
    take_in
        Takes in what the supervisor has sent.

    Attributes
    ----------
    in_command
        Whether a signal is raised as `KeyboardInterrupt`. An attribute and not a method sets it: a signal that comes
        during a call could be raised in that.
    meant_for
        The last command that the supervisor has interrupted.
    """

    def __init__(self, take_in: Callable[[], object]) -> None:
        self._take_in = take_in
        self._signalled = False  # outside of a command
        self.in_command = False
        self.meant_for = 0
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        if self.in_command:
            raise KeyboardInterrupt
        self._signalled = True

    def check(self, number: int) -> None:
        """Raise `KeyboardInterrupt` if the signal for a command came before that had begun."""
        if self._signalled:
            self._signalled = False
            self._take_in()  # the message was sent before the signal
            if self.meant_for == number:
                raise KeyboardInterrupt

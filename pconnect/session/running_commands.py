"""The commands that were sent to one node: which run, and which were asked to stop. No I/O."""

import math
from weakref import ref

from pconnect.commands.command import Command

_REMEMBERED = 30  # ends of commands
_FORGOTTEN = (
    100  # commands whose numbers are kept though nobody holds them, besides as many as somebody holds
)


class RunningCommands:
    """The commands of one node by number, in the order in which they were sent and will end."""

    def __init__(self) -> None:
        self.running: dict[int, Command] = {}  #: those that were sent and have not ended
        #: Those of the client before, to whose sessions this one has come back, and how many values of that are lost.
        self.found: dict[int, Command] = {}
        self.values_lost = 0
        self.last_finished = 0  #: number of the last command that the engine has ended
        self.ended_at = -math.inf  #: when a command ended last, an instant of the caller's clock
        #: Whether the engine is being killed: what was asked for since then ends with it, and is not sent any more.
        self.are_killed = False
        #: Whether one of those that were sent to this engine may have left something there that others look for.
        self.leave_state = False
        # Since when which one was the last that has ended. Another thread reads this: so it is replaced, not changed.
        self._finished: tuple[tuple[float, int], ...] = ()
        # Also those that have ended and whose values are still to come, for as long as somebody holds them. Nothing is
        # called when a command is freed, which happens in the user's code: a Ctrl-C during a call there would be lost.
        self._known: dict[int, ref[Command]] = {}
        self._purged_at = _FORGOTTEN
        self._interrupted_up_to = 0
        self._cancelled: set[int] = set()

    def add(self, command: Command) -> None:
        """Add a command that is about to be sent."""
        self.running[command.number] = command
        self._known[command.number] = ref(command)
        if len(self._known) > self._purged_at:
            self._known = {number: known for number, known in self._known.items() if known() is not None}
            self._purged_at = 2 * len(self._known) + _FORGOTTEN

    def get(self, number: int) -> Command | None:
        """Return a command that runs, or one that has ended and that somebody still holds."""
        known = self._known.get(number)
        return None if known is None else known()

    @property
    def known(self) -> list[Command]:
        """All commands that run, and those that have ended and that somebody still holds."""
        return [command for known in self._known.values() if (command := known()) is not None]

    @property
    def oldest(self) -> Command | None:
        """The command that the engine works on; ``None`` if there is none."""
        return self.running[min(self.running)] if self.running else None

    def finish(self, number: int, now: float) -> Command | None:
        """Remove a command that the engine has ended, and return it; ``None`` if it does not run."""
        self.last_finished = max(self.last_finished, number)
        self._finished = (*self._finished[-_REMEMBERED:], (now, self.last_finished))
        self._cancelled.discard(number)
        command = self.running.pop(number, None)
        if command is not None:
            self.ended_at = now
        return command

    def finished_by(self, instant: float) -> int:
        """Return the number of the last command that the engine had ended by an instant of the caller's clock.

        Of an instant long ago it may be that of a later command, as only the last ends are remembered.
        """
        number = 0
        for ended_at, number in reversed(self._finished):
            if ended_at <= instant:
                return number
        return number if len(self._finished) > _REMEMBERED else 0

    def drop(self) -> list[Command]:
        """Remove all commands, and return them: the engine will not end them."""
        dropped = list(self.running.values())
        self.running.clear()
        return dropped

    def forget(self) -> None:
        """Begin anew with another engine."""
        self._cancelled.clear()
        self.last_finished = 0
        self.leave_state = False
        self._finished = ()
        self.are_killed = False

    def interrupt(self, up_to: int | None) -> int | None:
        """Record that the commands up to a number, or all, are asked to stop. Some command must run.

        Returns the number of the last of them; ``None`` if the first that runs was asked before, and has to be killed.
        """
        if min(self.running) <= self._interrupted_up_to:
            return None
        number = max(self.running) if up_to is None else up_to
        self._interrupted_up_to = number
        for running, command in self.running.items():
            if running <= number:
                command.interrupt_asked = True
        return number

    def cancel(self, number: int) -> bool:
        """Record that one command is asked to stop; return whether this is the first time. Else it has to be killed."""
        if number in self._cancelled:
            return False
        self._cancelled.add(number)
        return True

    def runs(self, up_to: int | None) -> bool:
        """Whether one of the commands up to a number runs; with ``None``, whatever the engine does counts."""
        return up_to is None or any(number <= up_to for number in self.running)

    def interrupted_run(self) -> bool:
        """Whether a command that was interrupted has not ended yet."""
        return self.runs(self._interrupted_up_to)

"""The commands sent to one node: which run, and which were asked to stop. No I/O."""

import math
from weakref import ref

from pconnect.commands.command import Command

_REMEMBERED = 30  # most recent ends of commands
_FORGOTTEN = 100  # unreferenced commands whose numbers are kept, besides as many referenced ones


class RunningCommands:
    """The commands of one node by number, in the order in which they were sent and will end."""

    def __init__(self) -> None:
        self.running: dict[int, Command] = {}  #: sent and not yet ended
        #: Commands of the earlier client whose sessions were resumed, and the number of its values that are lost.
        self.found: dict[int, Command] = {}
        self.values_lost = 0
        self.last_finished = 0  #: number of the last command that has ended
        self.ended_at = -math.inf  #: when a command last ended, by the caller's clock
        #: Whether the engine is being killed: requests since then end with it, and are no longer sent.
        self.are_killed = False
        #: Whether a command sent to this engine may have left state there that jobs use.
        self.leave_state = False
        # When each of the last commands ended. Another thread reads this, so it is replaced, never changed.
        self._finished: tuple[tuple[float, int], ...] = ()
        # Includes ended commands that the user still references, because their values may be in transit. No callback
        # runs when a command is freed, which happens in the user's code: a Ctrl-C during a callback there would be
        # lost.
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
        """Return a running command, or an ended one that is still referenced."""
        known = self._known.get(number)
        return None if known is None else known()

    @property
    def known(self) -> list[Command]:
        """All running commands, and the ended ones that are still referenced."""
        return [command for known in self._known.values() if (command := known()) is not None]

    @property
    def oldest(self) -> Command | None:
        """The command that the engine is running; ``None`` if there is none."""
        return self.running[min(self.running)] if self.running else None

    def finish(self, number: int, now: float) -> Command | None:
        """Remove a command that has ended, and return it; ``None`` if it was not running."""
        self.last_finished = max(self.last_finished, number)
        self._finished = (*self._finished[-_REMEMBERED:], (now, self.last_finished))
        self._cancelled.discard(number)
        command = self.running.pop(number, None)
        if command is not None:
            self.ended_at = now
        return command

    def finished_by(self, instant: float) -> int:
        """Return the number of the last command that had ended by an instant of the caller's clock.

        For an instant long ago it may be the number of a later command, as only the most recent ends are remembered.
        """
        number = 0
        for ended_at, number in reversed(self._finished):
            if ended_at <= instant:
                return number
        return number if len(self._finished) > _REMEMBERED else 0

    def drop(self) -> list[Command]:
        """Remove and return all commands: the engine will not end them."""
        dropped = list(self.running.values())
        self.running.clear()
        return dropped

    def forget(self) -> None:
        """Start over with another engine."""
        self._cancelled.clear()
        self.last_finished = 0
        self.leave_state = False
        self._finished = ()
        self.are_killed = False

    def interrupt(self, up_to: int | None) -> int | None:
        """Record that the commands up to a number, or all, are asked to stop. At least one must be running.

        Returns the number of the last of them; ``None`` if the first was asked before, so it has to be killed.
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
        """Record that one command is asked to stop; return whether it is the first time. If not, it must be killed."""
        if number in self._cancelled:
            return False
        self._cancelled.add(number)
        return True

    def runs(self, up_to: int | None) -> bool:
        """Whether a command up to a number is running; with ``None``, always true."""
        return up_to is None or any(number <= up_to for number in self.running)

    def interrupted_run(self) -> bool:
        """Whether an interrupted command has not ended yet."""
        return self.runs(self._interrupted_up_to)

"""All orders in which the steps of two ends can happen."""

import contextlib
from collections.abc import Callable


class BeenHereError(Exception):
    """Everything from here on was already tried."""


class Choices:
    """Decides at each point what happens next; there is one for each path."""

    def __init__(self, prefix: list[int], states: set[object]) -> None:
        self._prefix = prefix
        self._states = states
        self.taken: list[tuple[int, int]] = []  # the choice, and the number of options

    def is_known(self, state: object) -> bool:
        """Return whether another path has already led to a state; remember the state."""
        if len(self.taken) < len(self._prefix) or state not in self._states:
            self._states.add(state)
            return False
        return True

    def pick(self, count: int) -> int:
        position = len(self.taken)
        choice = self._prefix[position] if position < len(self._prefix) else 0
        self.taken.append((choice, count))
        return choice


def every_way(run: Callable[[Choices], None]) -> int:
    """Call a function with all choices that lead to new states; return the number of paths that reached an end."""
    prefix: list[int] | None = []
    states: set[object] = set()
    count = 0
    while prefix is not None:
        choices = Choices(prefix, states)
        with contextlib.suppress(BeenHereError):
            run(choices)
            count += 1
        taken = choices.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        prefix = [choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1] if taken else None
    return count

"""All orders in which the steps of two ends can come."""

import contextlib
from collections.abc import Callable


class BeenHereError(Exception):
    """What comes from here on was tried already."""


class Choices:
    """Decides at each point what comes next; one of these for each way through."""

    def __init__(self, prefix: list[int], states: set[object]) -> None:
        self._prefix = prefix
        self._states = states
        self.taken: list[tuple[int, int]] = []  # the choice, and how many there were

    def is_known(self, state: object) -> bool:
        """Return whether another way has led to a state; remember it."""
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
    """Call a function with all choices, as long as they lead to new states; return how many led to an end."""
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

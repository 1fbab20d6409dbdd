"""Handshakes in the loop of a network: steps (`srp_tools.steps`) that go on while everything else is served.

`srp_tools.steps.run_all` waits for steps and for nothing else. Here they take a step when their descriptor is ready,
whenever the loop looks, and tell their outcome to who started them. So a connection can be made to a node that has no
time for it now, and nobody waits.
"""

import math
import selectors
import time
from collections.abc import Callable
from typing import Any

from srp_tools.steps import Steps, Wait


class Task:
    """Steps on their way; `TaskRunner.start` makes it."""

    def __init__(self, steps: Steps[Any], deadline: float, on_end: Callable[[Any], object]) -> None:
        self.steps = steps
        self.deadline = deadline
        self.on_end = on_end
        self.wait: Wait | None = None  # what it is registered for

    @property
    def due(self) -> float:
        """When it is looked at, whatever happens."""
        return self.deadline if self.wait is None else min(self.deadline, self.wait.until)


class TaskRunner:
    """All steps that one loop advances.

    Parameters
    ----------
    selector
        That of the loop, which calls what stands in an entry when its descriptor is ready.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._tasks: set[Task] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, steps: Steps[Any], deadline: float, on_end: Callable[[Any], object]) -> Task:
        """Begin steps.

        Parameters
        ----------
        steps
            They may wait for a descriptor that nothing else in the loop waits for, or, with -1 for it, for an instant.
        deadline
            Instant at which they are closed where they wait, with a `TimeoutError` as outcome.
        on_end
            Called with the result, or with the exception that the steps ended with; perhaps before this returns.

        Returns
        -------
        Task
            For `cancel`.
        """
        task = Task(steps, deadline, on_end)
        self._tasks.add(task)
        self._advance(task)
        return task

    def cancel(self, task: Task) -> None:
        """Close steps where they wait; their outcome is told to nobody. For those that have ended, does nothing."""
        if task in self._tasks:
            self._leave(task)
            task.steps.close()

    def close(self) -> None:
        """Cancel all."""
        for task in list(self._tasks):
            self.cancel(task)

    def time_left(self) -> float:
        """Return the seconds until `expire` has something to do."""
        return max(0.0, min((task.due for task in self._tasks), default=math.inf) - time.monotonic())

    def expire(self) -> None:
        """Tell steps whose time is up."""
        now = time.monotonic()
        for task in [task for task in self._tasks if task.due <= now]:
            error = TimeoutError("no answer within the time limit")
            if task not in self._tasks:  # another one's outcome has ended it
                continue
            if task.deadline <= now:
                self.cancel(task)
                task.on_end(error)
            else:
                self._advance(task, error)

    def _leave(self, task: Task) -> None:
        self._tasks.discard(task)
        self._unregister(task)

    def _unregister(self, task: Task) -> None:
        if task.wait is not None and task.wait.fileno >= 0:
            self._selector.unregister(task.wait.fileno)
        task.wait = None

    def _advance(self, task: Task, error: Exception | None = None) -> None:
        """Let steps go on until they wait again or end."""
        self._unregister(task)
        try:
            task.wait = next(task.steps) if error is None else task.steps.throw(error)
        except StopIteration as end:
            outcome = end.value
        except Exception as failure:  # noqa: BLE001 - the outcome of these steps
            outcome = failure
        else:
            if task.wait.fileno >= 0:
                self._selector.register(task.wait.fileno, task.wait.events, lambda: self._advance(task))
            return
        self._leave(task)
        task.on_end(outcome)

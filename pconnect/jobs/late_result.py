"""A future that has ended, and whose result may still have to be made of what has arrived.

A value of very many items takes long to make. It is made in the call that takes it, which Ctrl-C and its deadline end,
and not by the thread that receives it, on which everybody waits.
"""

import math
import threading
from collections.abc import Callable
from typing import Any, cast

from pconnect.jobs.light_future import LightFuture
from pconnect.jobs.output_files import NO_OUTPUTS, JobOutputs
from pconnect.link.queues import look_until
from pconnect.values.item_limit import Look
from srp_tools.steps import remaining


class Arrival:
    """A result that has arrived and is not made yet, because that may take long: whoever asks for it first makes it.

    `make`: makes it; returns the value and the error that it is in place of one. What it is called with may raise
    `TimeoutError`; after that, and after Ctrl-C, it may be called again.
    """

    def __init__(self, make: Callable[[Look], tuple[Any, BaseException | None]]) -> None:
        self._make = make
        self._lock = threading.Lock()

    def finish(self, job: "LateFuture", deadline: float) -> None:
        """Give a future its outcome, unless another thread does. Raises `TimeoutError` if the deadline passes."""
        left = remaining(deadline)
        if not self._lock.acquire(timeout=-1 if left is None else left):
            raise TimeoutError
        try:
            if job.is_unmade:
                job.complete(*self._make(look_until(deadline)))
        finally:
            self._lock.release()


class _Fact:
    """What comes with the result of a job, which is made first, if that was not done yet.

    It is used only where the job itself does not have it: this costs nothing where the result was made at once.
    """

    def __init__(self, default: object) -> None:
        self._default = default

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    def __get__(self, job: "LateFuture | None", _: type) -> Any:
        if job is None:
            return self._default
        job.finish_making(math.inf)
        return vars(job).get(self._name, self._default)


class LateFuture(LightFuture):
    """A future whose result may be an `Arrival`, which others do not see."""

    started: float | None = cast(Any, _Fact(None))
    duration: float | None = cast(Any, _Fact(None))
    stdout: str = cast(Any, _Fact(""))
    stderr: str = cast(Any, _Fact(""))
    outputs: JobOutputs = cast(Any, _Fact(NO_OUTPUTS))

    @property
    def is_unmade(self) -> bool:
        """Whether the result has arrived, and was not made yet."""
        return type(self._result) is Arrival

    def finish_making(self, deadline: float) -> None:
        """Make the result if it has arrived and that was not done yet."""
        arrival = self._result
        if type(arrival) is Arrival:
            arrival.finish(self, deadline)

    def complete(self, value: object, error: BaseException | None) -> None:
        """Put the outcome in the place of an `Arrival`."""
        with self._condition:
            self._result, self._exception = value, error

"""A future that has ended while its result may still have to be decoded.

Decoding a value of very many items takes long. It happens in the call that asks for the result, where Ctrl-C and a
deadline can end it, and not in the thread that receives results, which must not block.
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
    """A result that has arrived but is not decoded, because that may take long; the first call to need it decodes it.

    `make` decodes it and returns the value and the error, one of them ``None``. The function passed to `make` may raise
    `TimeoutError`; after that, and after Ctrl-C, `make` may be called again.
    """

    def __init__(self, make: Callable[[Look], tuple[Any, BaseException | None]]) -> None:
        self._make = make
        self._lock = threading.Lock()

    def finish(self, job: "LateFuture", deadline: float) -> None:
        """Set a future's outcome, unless another thread has done so. Raises `TimeoutError` after the deadline."""
        left = remaining(deadline)
        if not self._lock.acquire(timeout=-1 if left is None else left):
            raise TimeoutError
        try:
            if job.is_unmade:
                job.complete(*self._make(look_until(deadline)))
        finally:
            self._lock.release()


class _Fact:
    """An attribute that arrives with the result of a job; reading it decodes the result first if necessary.

    This is used only if the job has no attribute of this name, so it costs nothing once the result is decoded.
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
    """A future whose result may be an `Arrival`; its public methods never return one."""

    started: float | None = cast(Any, _Fact(None))
    duration: float | None = cast(Any, _Fact(None))
    stdout: str = cast(Any, _Fact(""))
    stderr: str = cast(Any, _Fact(""))
    outputs: JobOutputs = cast(Any, _Fact(NO_OUTPUTS))

    @property
    def is_unmade(self) -> bool:
        """Whether the result has arrived but is not decoded."""
        return type(self._result) is Arrival

    def finish_making(self, deadline: float) -> None:
        """Decode the result if it has arrived and is not decoded."""
        arrival = self._result
        if type(arrival) is Arrival:
            arrival.finish(self, deadline)

    def complete(self, value: object, error: BaseException | None) -> None:
        """Replace an `Arrival` by the outcome."""
        with self._condition:
            self._result, self._exception = value, error

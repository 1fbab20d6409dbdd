"""Requests of other threads about the nodes that run jobs: retire, forget or renew nodes, and ask their servers.

A node leaves in two steps, and its session ends between them. This ensures that a job never runs twice at the same
time.
"""

import concurrent.futures
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

from pconnect.protocol.kinds import Kind
from pconnect.scheduler.healing import Healer
from pconnect.scheduler.loop_thread import LoopThread
from pconnect.scheduler.worker_manager import WorkerManager
from srp_tools.steps import Steps, deadline_after

_REMOVED = "was removed from the network"
_RENEWED = "got a new session"

_Answers = dict[int, dict[str, Any]]


class NodeChanges:
    """The changes of one network's nodes, which run in the `thread` of its jobs."""

    def __init__(self, thread: LoopThread, manager: WorkerManager, healer: Healer) -> None:
        self._thread, self._manager, self._healer = thread, manager, healer

    def retire(self, numbers: Collection[int], grace: float) -> concurrent.futures.Future[None]:
        """Begin no more jobs on some nodes; the future ends when none runs there, or `grace` seconds later."""
        return self._start(self._retire(numbers, grace))

    def forget(self, numbers: Collection[int]) -> concurrent.futures.Future[None]:
        """Forget retired nodes whose sessions have ended; the future ends when this is done.

        Jobs that may have begun there and have no result are lost.
        """
        return self._start(self._forget(numbers))

    def renew(
        self, numbers: Collection[int], grace: float, *, away: bool = False
    ) -> concurrent.futures.Future[None]:
        """Leave the sessions of lost nodes that are to get new ones, for which jobs wait; see `forget`.

        If a node has a session for jobs again, its jobs have `grace` seconds to end. Call `Scheduler.add_nodes` with
        the new sessions. `away`: whether the nodes were lost because the client was away.
        """
        return self._start(self._renew(numbers, grace, away=away))

    def await_news(self, nodes: Iterable[int]) -> None:
        """Wait for reports of some nodes about their new engines before jobs fail for lack of a node."""

        def await_all() -> None:
            for number in nodes:
                if number in self._manager.nodes:
                    self._manager.nodes[number].await_news()

        self._thread.call(await_all)

    def ask(self, kind: Kind, number: int, value_for: Callable[[int], object], timeout: float) -> _Answers:
        """Ask the nodes that were healed a question with this number, and return their answers by node."""
        answers: concurrent.futures.Future[_Answers] = self._start(
            self._healer.ask(kind, number, value_for, timeout)
        )
        try:
            return answers.result(timeout + 1.0)
        except concurrent.futures.TimeoutError:
            return {}  # the scheduler's thread has ended

    def _retire(self, numbers: Collection[int], grace: float) -> Steps[None]:
        self._healer.stop(numbers)
        yield from self._manager.retire_nodes(numbers, deadline_after(grace))

    def _forget(self, numbers: Collection[int]) -> Steps[None]:
        self._healer.stop(numbers)
        yield from self._healer.end(numbers, _REMOVED)
        self._manager.forget_nodes(numbers, _REMOVED)

    def _renew(self, numbers: Collection[int], grace: float, *, away: bool) -> Steps[None]:
        self._healer.stop(numbers)
        yield from self._manager.retire_nodes(numbers, deadline_after(0.0), returns=True)
        healed = [number for number in numbers if self._healer.has_session(number)]
        yield from self._manager.retire_nodes(healed, deadline_after(grace), returns=True)
        yield from self._healer.end(numbers, _RENEWED, away=away)
        self._manager.empty_nodes(numbers, _RENEWED, away=away)

    def _start(self, steps: Steps[Any]) -> concurrent.futures.Future[Any]:
        """Run steps in the scheduler's thread; the future gets their result, or their exception."""
        outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def end(result: object) -> None:
            if isinstance(result, Exception):
                outcome.set_exception(result)
            else:
                outcome.set_result(result)

        background = self._thread.event_loop.background
        self._thread.call(lambda: background.start(steps, math.inf, end))
        return outcome

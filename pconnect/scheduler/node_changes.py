"""What other threads ask of the nodes that run jobs: to leave, to be others, to say how they are.

A node leaves in two steps, between which its session is ended: then nothing that may run again is still running there.
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
    """The changes of one network's nodes. `thread`: of its jobs, in which all of it happens."""

    def __init__(self, thread: LoopThread, manager: WorkerManager, healer: Healer) -> None:
        self._thread, self._manager, self._healer = thread, manager, healer

    def retire(self, numbers: Collection[int], grace: float) -> concurrent.futures.Future[None]:
        """Have no more jobs begin at some nodes; return what ends when none runs there, or `grace` seconds later."""
        return self._start(self._retire(numbers, grace))

    def forget(self, numbers: Collection[int]) -> concurrent.futures.Future[None]:
        """Forget nodes that are retired, and whose sessions have ended; return what ends when that is done.

        What may have begun there and has no result is lost.
        """
        return self._start(self._forget(numbers))

    def renew(
        self, numbers: Collection[int], grace: float, *, away: bool = False
    ) -> concurrent.futures.Future[None]:
        """Leave the sessions of nodes that are lost and are to get new ones, for which jobs wait; see `forget`.

        Where one has a session again for jobs, what runs there has `grace` seconds to end. `Scheduler.add_nodes` says
        what has come of it. `away`: whether they were lost because the client was away.
        """
        return self._start(self._renew(numbers, grace, away=away))

    def await_news(self, nodes: Iterable[int]) -> None:
        """Wait for what the servers of some nodes tell of their new engines, before a job fails for want of a node."""

        def await_all() -> None:
            for number in nodes:
                if number in self._manager.nodes:
                    self._manager.nodes[number].await_news()

        self._thread.call(await_all)

    def ask(self, kind: Kind, number: int, value_for: Callable[[int], object], timeout: float) -> _Answers:
        """Return what the nodes that came back by themselves answer to a question with this number, by node."""
        answers: concurrent.futures.Future[_Answers] = self._start(
            self._healer.ask(kind, number, value_for, timeout)
        )
        try:
            return answers.result(timeout + 1.0)
        except concurrent.futures.TimeoutError:
            return {}  # its thread has ended

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
        """Run steps in the thread of the jobs; what is returned has their result, or what they raised."""
        outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def end(result: object) -> None:
            if isinstance(result, Exception):
                outcome.set_exception(result)
            else:
                outcome.set_result(result)

        background = self._thread.event_loop.background
        self._thread.call(lambda: background.start(steps, math.inf, end))
        return outcome

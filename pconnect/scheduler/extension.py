"""Who looks after jobs beside the dispatcher, in its loop: those that leave the client, or come back to another."""

from collections.abc import Callable
from typing import Protocol

from pconnect.jobs.job import Job
from pconnect.loop.event_loop import EventLoop
from pconnect.scheduler.node_workers import NodeWorkers


class Extension(Protocol):
    """What the dispatcher calls in its thread.

    Attributes
    ----------
    pauses
        Whether no jobs are to be given out meanwhile.
    """

    pauses: bool

    def begin(
        self,
        pools: dict[int, NodeWorkers],
        event_loop: EventLoop,
        open_jobs: set[Job],
        allowed: Callable[[Job], set[int]],
    ) -> None:
        """Take over what is needed: the pools by node, the loop, the jobs that have not ended, and where one may run.

        This is called once, before the first step, in the thread that asks for it.
        """

    def step(self) -> None:
        """Do what there is to do; called whenever something has happened, and several times in a second."""

    def end(self, reason: str) -> None:
        """Take note that the loop ends."""

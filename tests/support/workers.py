"""Jobs that are not run, and workers that are sure to be there."""

import os
import time

from pconnect.jobs.job import Job, JobOptions
from pconnect.views.network_views import ClientNetwork
from tests.support.waiting import wait_until

LIMIT = 20.0


class Owner:
    """The dispatcher of jobs that are not run."""

    def __init__(self) -> None:
        self.stopped: list[float] = []

    def purge(self, job: Job) -> None:
        job.begin()

    def stop(self, job: Job, patience: float) -> None:  # noqa: ARG002
        self.stopped.append(patience)


def made(options: JobOptions | None = None, owner: Owner | None = None) -> Job:
    return Job(7, "f(...)", [b"data"], options or JobOptions(), owner or Owner())


def two_workers(net: ClientNetwork) -> None:
    """Wait until two workers of a network do its jobs, which have known only long ones, so that each has one at a time.

    Those that have seen something short are sent more ahead, which then waits even if the other is idle.
    """
    net.eval("None").result(LIMIT)  # the workers that were before this end

    def look(_: int) -> int:
        time.sleep(0.06)
        return os.getpid()

    wait_until(lambda: len(set(net.map(look, range(4)))) == 2, "two workers")

"""Jobs that never run, workers that are ready for sure, and the far ends of their connections."""

import os
import time
from collections.abc import Callable
from typing import Any

from pconnect.jobs.job import Job, JobOptions
from pconnect.link.connection import Connection
from pconnect.protocol.kinds import Kind, Role
from pconnect.views.network_views import ClientNetwork
from srp_tools.channel import Channel
from tests.support.waiting import wait_until

LIMIT = 20.0


class Owner:
    """The scheduler of jobs that never run."""

    def __init__(self) -> None:
        self.stopped: list[float] = []

    def drop(self, job: Job) -> None:
        job.begin()

    def stop(self, job: Job, grace: float) -> None:  # noqa: ARG002
        self.stopped.append(grace)

    def attend(self, job: Job, deadline: float) -> None:
        """Do nothing: there are no results."""

    def show(self, job: Job, stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        """Do nothing: nobody watches."""

    def fetch(self, job: Job, error: Exception, timeout: float | None) -> Any:  # noqa: ARG002
        """Raise the error: no job keeps it."""
        raise error

    def why(self, job: Job) -> str:  # noqa: ARG002
        """Return why the job waits."""
        return ""

    def call_back(self, function: Callable[[], object]) -> None:
        function()


def made(options: JobOptions | None = None, owner: Owner | None = None) -> Job:
    return Job(7, "f(...)", [b"data"], options or JobOptions(), owner or Owner())


def two_workers(net: ClientNetwork) -> None:
    """Wait until two workers, which have only run long jobs and so get one at a time, run a network's jobs.

    Workers that have run short jobs get further jobs ahead, which wait even if the other worker is idle.
    """
    net.eval("None").result(LIMIT)  # the earlier workers end

    def look(_: int) -> int:
        time.sleep(0.06)
        return os.getpid()

    wait_until(lambda: len(set(net.map(look, range(4)))) == 2, "two workers")


class Far:
    """The far end of a worker's connection or of a job channel."""

    def __init__(self, near: Connection, channel: Channel, role: Role) -> None:
        self._near = near
        self._far = Connection(0, "client", channel, role=role)
        self._messages: list[tuple[Kind, int, Any]] = []
        self._far.on_message = lambda message: self._messages.append(
            (message.kind, message.tag, message.value)
        )

    def messages(self) -> list[tuple[Kind, int, Any]]:
        """Return the messages since the last call."""
        self._near.flush()
        while self._far.fill():
            pass
        came, self._messages[:] = list(self._messages), []
        return came

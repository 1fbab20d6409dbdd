"""How many of the detached jobs of one executor or pool may run at the same time on this node.

This module only counts. Each limit has a number; a job has at most one limit.
"""

from collections.abc import Collection, Iterable

#: For each limit, how many of its jobs may begin now.
Room = dict[int, int]


class JobLimits:
    """The limits of one session."""

    def __init__(self) -> None:
        self._most: dict[int, int] = {}
        self._limit_of: dict[int, int] = {}

    def add(self, limit: int, most: int, jobs: Iterable[int]) -> None:
        """Let at most `most` of these jobs, and of jobs added to this limit before, run at the same time."""
        self._most[limit] = most
        self._limit_of.update(dict.fromkeys(jobs, limit))

    def clear(self) -> None:
        """Remove all limits."""
        self._most.clear()
        self._limit_of.clear()

    def room(self, holders: Iterable[tuple[int, int]]) -> Room:
        """Return the room of each limit. `holders`: pairs of a worker and a job that it has.

        A worker runs one job at a time, so jobs of one limit that the same worker has count once.
        """
        if not self._most:
            return {}
        room = self._most.copy()
        for _, limit in {(worker, self._limit_of.get(job)) for worker, job in holders}:
            if limit is not None:
                room[limit] -= 1
        return room

    def admits(self, job: int, room: Room) -> bool:
        """Return whether a job may begin now."""
        limit = self._limit_of.get(job)
        return limit is None or room[limit] > 0

    def count(self, waiting: Collection[int], room: Room) -> int:
        """Return how many of the waiting jobs may begin now, together."""
        if not self._most:  # there may be a hundred thousand jobs
            return len(waiting)
        left, count = room.copy(), 0
        for job in waiting:
            if self.admits(job, left):
                count += 1
                if (limit := self._limit_of.get(job)) is not None:
                    left[limit] -= 1
        return count

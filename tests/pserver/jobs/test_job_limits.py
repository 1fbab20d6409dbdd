"""Counting of detached jobs that have a limit."""

from pserver.jobs.job_limits import JobLimits


def test_without_limits_all_jobs_may_begin() -> None:
    limits = JobLimits()
    room = limits.room([(1, 7)])
    assert limits.admits(8, room)
    assert limits.count([8, 9], room) == 2


def test_each_limit_counts_its_own_jobs() -> None:
    limits = JobLimits()
    limits.add(1, 2, [1, 2])
    limits.add(2, 1, [5, 6])
    limits.add(1, 2, [3, 4])  # the rest of the first limit
    room = limits.room([(10, 1), (11, 5), (12, 99)])
    assert [job for job in (2, 3, 6, 99) if limits.admits(job, room)] == [2, 3, 99]
    assert limits.count([2, 3, 4, 6, 98, 99], room) == 3  # one of the first limit, and two without a limit
    assert limits.admits(2, room)  # counting has changed nothing


def test_jobs_of_one_worker_count_once() -> None:
    limits = JobLimits()
    limits.add(1, 2, [1, 2, 3, 4])
    assert limits.admits(4, limits.room([(10, 1), (10, 2), (10, 3)]))
    assert not limits.admits(4, limits.room([(10, 1), (10, 2), (11, 3)]))


def test_limits_can_be_forgotten() -> None:
    limits = JobLimits()
    limits.add(1, 1, [1, 2])
    limits.clear()
    assert limits.count([2], limits.room([(10, 1)])) == 1

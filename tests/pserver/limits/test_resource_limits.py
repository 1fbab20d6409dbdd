"""Limits of a process through setrlimit, each in a separate child process."""

import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from pserver.config.limit_options import SessionLimits
from pserver.limits.resource_limits import CPU_GRACE, apply_limits, limit_growth
from pserver.system.processes import private_bytes
from tests.support.waiting import DEADLINE

MIB = 2**20
# More than any process of these tests uses; the limit counts from the current size.
TRY_MEMORY = "try:\n    bytearray(2**33)\nexcept MemoryError:\n    print('no')"


def in_child(work: Callable[[], Any]) -> Any:
    """Return the result of a function called in a child of this process."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=lambda: writer.send(work()))
    child.start()
    child.join(DEADLINE)
    assert child.exitcode == 0
    return reader.recv()


def limited(limits: SessionLimits, *which: int) -> Any:
    def look() -> Any:
        apply_limits(limits)
        return [resource.getrlimit(each) for each in which]

    return in_child(look)


def test_each_limit_is_set_for_good() -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1
    limits = SessionLimits(memory=2**40, cpu=60.0, processes=1000, files=files)
    assert limited(
        limits, resource.RLIMIT_DATA, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC
    ) == [
        (2**40, 2**40),
        (60, 60 + CPU_GRACE),
        (min(files, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), files),
        (1000, 1000),
    ]


def test_what_is_not_limited_stays() -> None:
    which = [resource.RLIMIT_DATA, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC]
    assert limited(SessionLimits(), *which) == [resource.getrlimit(each) for each in which]


def test_nothing_is_raised() -> None:
    def look() -> Any:
        apply_limits(SessionLimits(memory=2**33, files=64, cpu=50.0))
        apply_limits(SessionLimits(memory=2**40, files=2**20, cpu=1e6))
        return [
            resource.getrlimit(each)[1]
            for each in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)
        ]

    assert in_child(look) == [2**33, 64, 50 + CPU_GRACE]


def test_memory_ends_in_an_error_also_of_programs() -> None:
    def look() -> Any:
        apply_limits(SessionLimits(memory=private_bytes() + 300 * MIB))
        try:
            bytearray(2**33)
        except MemoryError:
            said = subprocess.run(
                [sys.executable, "-c", TRY_MEMORY], capture_output=True, text=True, check=True
            )
            return said.stdout
        return "yes"

    assert in_child(look) == "no\n"


def test_growth_is_what_comes_on_top() -> None:
    def look() -> Any:
        limit_growth(0)
        kept = bytearray(2**28)
        limit_growth(2**28)
        try:
            bytearray(2**29)
        except MemoryError:
            return len(bytearray(2**27)) + len(kept)
        return 0

    assert in_child(look) == 2**27 + 2**28


def test_with_a_cgroup_that_counts_processes_the_account_is_not_limited(tmp_path: Any) -> None:
    (tmp_path / "pids.max").touch()
    before = resource.getrlimit(resource.RLIMIT_NPROC)
    limits = SessionLimits(processes=1000, cgroup=str(tmp_path))
    assert limited(limits, resource.RLIMIT_NPROC) == [before]
    (tmp_path / "pids.max").unlink()
    assert limited(limits, resource.RLIMIT_NPROC) == [(1000, 1000)]


@pytest.mark.parametrize(("before", "wanted"), [(0, 5), (9, 9)])
def test_niceness_is_never_less_than_before(before: int, wanted: int) -> None:
    def look() -> Any:
        os.setpriority(os.PRIO_PROCESS, 0, max(before, now))
        apply_limits(SessionLimits(nice=5))
        return os.getpriority(os.PRIO_PROCESS, 0)

    now = psutil.Process().nice()
    assert in_child(look) == max(wanted, now)
